"""Updates from the broker into the spool: the shell around the intake."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aggregator.aggregate import verify
from aggregator.coordinator.events import Event, UpdateReceived, UpdateRejected
from aggregator.intake import Complete, Effect, Intake, IntakeLimits, Offered, Open, SendGrant
from aggregator.opening import Opening
from aggregator.spool import RESERVE_BYTES, Spool
from broker.layout import Layout
from broker.messages import Grant, Offer, RejectReason
from broker.partfile import PartFile
from host.errors import NoRoomError, SealError, StorageError, WireError
from host.files import is_no_room
from host.loop import Jobs

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Upload:
    offer: Offer
    layout: Layout
    max_norm: float | None
    part: PartFile | None = None
    resumed: bool = False
    verifying: bool = False
    dropped: bool = False


class Uploads:
    """Opens part files, writes granted chunks, verifies what is complete, and tells the coordinator."""

    def __init__(
        self,
        spool: Spool,
        jobs: Jobs,
        limits: IntakeLimits,
        send: Callable[[str, Grant], None],
        tell: Callable[[Event], None],
        filled: Callable[[Exception], None],
        opening: Opening,
    ) -> None:
        self._spool = spool
        self._jobs = jobs
        self._intake = Intake(limits)
        self._send = send
        self._tell = tell
        self._filled = filled
        self._opening = opening
        self._uploads: dict[str, _Upload] = {}

    @property
    def dropped(self) -> int:
        """Chunks that nobody had granted."""
        return self._intake.dropped

    def admit(self, device: str, offer: Offer, layout: Layout, max_norm: float | None, now: float) -> None:
        """Take this update in, when its turn comes."""
        known = self._uploads.get(device)
        if known is not None and known.verifying:
            return
        if known is not None and _same_update(known.offer, offer):
            known.offer = offer
        else:
            self._run(self._intake.forget(device), now)
            self._uploads[device] = _Upload(offer, layout, max_norm)
        self._run(self._intake.offered(device, offer.run, offer.round, offer.update, now), now)

    def chunk(self, device: str, transfer: str, index: int, data: bytes, now: float) -> None:
        """Write a chunk, if it was granted; raises WireError when it does not fit."""
        upload = self._uploads.get(device)
        if upload is not None and upload.part is not None and self._intake.wanted(device, transfer, index):
            try:
                upload.part.write(index, data)
            except StorageError as error:
                # It was granted and is not there: it is asked for again when its lease lapses.
                self._give_up(error)
                return
        self._run(self._intake.chunk(device, transfer, index, now), now)

    def reconnected(self, device: str) -> None:
        """The device has a new connection, on which it offers again."""
        self._intake.reconnected(device)

    def drop(self, run: str, number: int, now: float) -> None:
        """The round takes no more updates."""
        for device, upload in list(self._uploads.items()):
            if (upload.offer.run, upload.offer.round) == (run, number):
                upload.dropped = True
                if not upload.verifying:
                    del self._uploads[device]
        self._run(self._intake.cancel(run, number), now)

    def forget(self, device: str, now: float) -> None:
        """The device was excluded: its upload ends here; what is being verified, the coordinator judges."""
        upload = self._uploads.get(device)
        if upload is not None and not upload.verifying:
            del self._uploads[device]
        self._run(self._intake.forget(device), now)

    def connected(self, now: float) -> None:
        """Grants may have got lost: send them again."""
        self._run(self._intake.connected(now), now)

    def disconnected(self) -> None:
        """Silence is not the devices' now."""
        self._intake.disconnected()

    def next_deadline(self) -> float | None:
        """When `lapsed` is due."""
        return self._intake.next_deadline()

    def lapsed(self, now: float) -> None:
        """Ask silent devices again."""
        self._run(self._intake.lapsed(now), now)

    def _run(self, effects: list[Effect], now: float) -> None:
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            if isinstance(effect, SendGrant):
                self._send(effect.device, effect.grant)
            elif isinstance(effect, Open):
                waiting.extend(self._open(effect.offer, now))
            else:
                self._complete(effect)

    def _open(self, offered: Offered, now: float) -> list[Effect]:
        upload = self._uploads[offered.device]
        if not self._spool.room_for(offered.ref.size):
            about = {"event": "spool-full", "device": offered.device}
            text = "no room in the spool for the update of %s: raise spool_limit_bytes"
            log.error(text, offered.device, extra=about)
            del self._uploads[offered.device]
            return self._intake.forget(offered.device)
        try:
            upload.part = self._part(offered)
        except (OSError, StorageError) as error:
            del self._uploads[offered.device]
            effects = self._intake.forget(offered.device)
            self._give_up(error)
            return effects
        upload.resumed = upload.part.received > 0
        return self._intake.opened(offered, upload.part.missing(offered.ref.chunks), now)

    def _part(self, offered: Offered) -> PartFile:
        if not self._spool.disk_has(offered.ref.size):
            raise NoRoomError(
                f"the disk has no room for the update of {offered.device}: {offered.ref.size:,} bytes and "
                f"a reserve of {RESERVE_BYTES >> 20} MiB: free some space"
            )
        return self._spool.part(offered.run, offered.round, offered.device, offered.ref)

    def _give_up(self, error: Exception) -> None:
        if is_no_room(error):
            self._filled(error)
        else:
            _fail(error)

    def _complete(self, effect: Complete) -> None:
        device = effect.offer.device
        upload = self._uploads[device]
        upload.verifying = True

        def done(reason: RejectReason | None) -> None:
            self._uploads.pop(device, None)
            if reason is None:
                self._tell(UpdateReceived(device, upload.offer))
            elif reason is RejectReason.DIGEST and upload.resumed:
                # A power cut may have torn what came before it, which is no fault of the device: all of it is
                # discarded by now, and comes anew when the device offers again.
                about = {"device": device, "run": upload.offer.run, "round": upload.offer.round}
                text = "the update of %s was damaged on our disk: it is to come again"
                log.warning(text, device, extra=about)
            else:
                self._tell(UpdateRejected(device, upload.offer, reason))

        def failed(error: Exception) -> None:
            self._uploads.pop(device, None)
            # The files of a round that is over may be swept away meanwhile.
            if not upload.dropped:
                self._give_up(error)

        self._jobs.submit(lambda: self._verify(device, upload), done, failed)

    def _verify(self, device: str, upload: _Upload) -> RejectReason | None:
        assert upload.part is not None
        try:
            path = upload.part.finish()
        except WireError:
            return RejectReason.DIGEST
        offer = upload.offer
        try:
            with self._opening.opened(path, offer.run, offer.round, device) as readable:
                reason = verify(readable, upload.layout, upload.max_norm)
        except SealError as error:
            about = {"device": device, "run": offer.run, "round": offer.round}
            text = "the update of %s for round %d is rejected: %s"
            log.warning(text, device, offer.round, error, extra=about)
            reason = RejectReason.SEAL
        if reason is None:
            self._spool.accept(path, offer.run, offer.round, device)
        else:
            path.unlink()
        return reason


def _same_update(one: Offer, other: Offer) -> bool:
    """Whether what was received for one offer serves the other, whatever its metrics say."""
    return (one.run, one.round, one.update) == (other.run, other.round, other.update)


def _fail(error: Exception) -> None:
    raise (
        error
        if isinstance(error, StorageError)
        else StorageError(f"an update could not be verified: {error}")
    )
