"""The intake of updates: who may upload which chunks, and when to ask again.

Pure: it knows no file, socket or clock. The shell asks `wanted` before it writes a chunk, tells every chunk
that came with `chunk`, and carries out the effects. What a device sends ungranted is dropped and counted, so
that the aggregator's load depends on the limits below and not on the size of the fleet.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from broker.messages import BlobRef, Grant


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much is taken in at a time; `window` must not exceed `MAX_GRANTED_CHUNKS`."""

    max_grants: int = 4
    window: int = 16
    queue: int = 4096
    lease_s: float = 20.0
    patience_s: float = 5.0
    max_leases: int = 3


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer that the coordinator admitted."""

    device: str
    run: str
    round: int
    ref: BlobRef


@dataclass(frozen=True, slots=True)
class Open:
    """Open the part file; answer with `opened`, or with `forget` when that is not possible."""

    offer: Offered


@dataclass(frozen=True, slots=True)
class SendGrant:
    """Send a grant to the device's inbox."""

    device: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Complete:
    """Every chunk is in the part file: check it and answer the device."""

    offer: Offered


Effect: TypeAlias = Open | SendGrant | Complete


@dataclass(slots=True)
class _Upload:
    offer: Offered
    missing: deque[int] = field(default_factory=deque)
    outstanding: set[int] = field(default_factory=set)
    deadline: float | None = None
    moved_at: float = 0.0
    lapses: int = 0

    def grant(self, indexes: Iterable[int]) -> SendGrant:
        offer = self.offer
        named = Grant(
            run=offer.run, round=offer.round, transfer=offer.ref.transfer, indexes=tuple(sorted(indexes))
        )
        return SendGrant(offer.device, named)

    def refill(self, window: int) -> list[Effect]:
        """Grant what is missing next, once half of the window is free."""
        if not self.missing or len(self.outstanding) > window // 2:
            return []
        room = min(window - len(self.outstanding), len(self.missing))
        following = [self.missing.popleft() for _ in range(room)]
        self.outstanding.update(following)
        return [self.grant(following)]

    def again(self) -> list[Effect]:
        return [self.grant(self.outstanding)] if self.outstanding else []


class Intake:
    """Offers wait in order of arrival, one a device; a few at a time upload, each with window and lease."""

    def __init__(self, limits: IntakeLimits | None = None) -> None:
        self.limits = limits or IntakeLimits()
        self.dropped = 0
        self.turned_away = 0
        self._waiting: dict[str, Offered] = {}
        self._uploads: dict[str, _Upload] = {}
        self._connected = False

    def offered(self, device: str, run: str, round_: int, ref: BlobRef, now: float) -> list[Effect]:
        """Queue an admitted offer; one that is known already keeps its place.

        Its grant is sent again only when nothing came for `patience_s`, since the first may still be on its
        way, or when the device has a new connection.
        """
        offer = Offered(device, run, round_, ref)
        upload = self._uploads.get(device)
        if upload is not None and upload.offer == offer:
            if now - upload.moved_at < self.limits.patience_s:
                return []
            upload.moved_at = now
            return upload.again()
        if device not in self._waiting and len(self._waiting) >= self.limits.queue:
            self.turned_away += 1
            return []
        self._uploads.pop(device, None)
        self._waiting[device] = offer
        return self._start()

    def opened(self, offer: Offered, missing: Iterable[int], now: float) -> list[Effect]:
        """Begin the upload: the part file is open and lacks these chunks, ascending; answers `Open`."""
        upload = self._uploads.get(offer.device)
        if upload is None or upload.offer != offer or upload.deadline is not None:
            return []
        upload.missing.extend(missing)
        upload.moved_at, upload.deadline = now, now + self.limits.lease_s
        return upload.refill(self.limits.window) or self._complete(offer.device)

    def wanted(self, device: str, transfer: str, index: int) -> bool:
        """Whether this chunk was granted and did not come yet."""
        upload = self._uploads.get(device)
        return upload is not None and upload.offer.ref.transfer == transfer and index in upload.outstanding

    def chunk(self, device: str, transfer: str, index: int, now: float) -> list[Effect]:
        """Note a chunk that came and, if it was wanted, is written; count any other as dropped."""
        if not self.wanted(device, transfer, index):
            self.dropped += 1
            return []
        upload = self._uploads[device]
        upload.outstanding.remove(index)
        upload.lapses = 0
        upload.moved_at, upload.deadline = now, now + self.limits.lease_s
        if upload.outstanding or upload.missing:
            return upload.refill(self.limits.window)
        return self._complete(device)

    def reconnected(self, device: str) -> None:
        """Answer this device's next offer at once: what it was granted before went with its connection."""
        if (upload := self._uploads.get(device)) is not None:
            upload.moved_at = -math.inf

    def lapsed(self, now: float) -> list[Effect]:
        """Ask silent devices again; take the grant from those that stayed silent for `max_leases` leases."""
        effects: list[Effect] = []
        for device, upload in list(self._uploads.items()) if self._connected else []:
            if upload.deadline is None or upload.deadline > now:
                continue
            upload.lapses += 1
            upload.deadline = now + self.limits.lease_s
            if upload.lapses < self.limits.max_leases:
                effects += upload.again()
            else:
                del self._uploads[device]
        return effects + self._start()

    def cancel(self, run: str, round_: int) -> list[Effect]:
        """Take no more updates for this round."""
        return self._remove(lambda offer: (offer.run, offer.round) == (run, round_))

    def forget(self, device: str) -> list[Effect]:
        """Let go of a device that is gone, or whose part file cannot be opened; it may offer again."""
        return self._remove(lambda offer: offer.device == device)

    def disconnected(self) -> None:
        """Stop counting silence, since the broker is out of reach."""
        self._connected = False

    def connected(self, now: float) -> list[Effect]:
        """Begin all leases anew and send the grants again, since any may have got lost."""
        self._connected = True
        effects: list[Effect] = []
        for upload in self._uploads.values():
            if upload.deadline is not None:
                upload.deadline = now + self.limits.lease_s
                effects += upload.again()
        return effects

    def next_deadline(self) -> float | None:
        """When `lapsed` is to be called at the latest; None: not before another event."""
        if not self._connected:
            return None
        return min((u.deadline for u in self._uploads.values() if u.deadline is not None), default=None)

    def _complete(self, device: str) -> list[Effect]:
        upload = self._uploads.pop(device)
        return [Complete(upload.offer), *self._start()]

    def _remove(self, match: Callable[[Offered], bool]) -> list[Effect]:
        self._waiting = {device: offer for device, offer in self._waiting.items() if not match(offer)}
        self._uploads = {
            device: upload for device, upload in self._uploads.items() if not match(upload.offer)
        }
        return self._start()

    def _start(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._waiting and len(self._uploads) < self.limits.max_grants:
            device = next(iter(self._waiting))
            upload = _Upload(self._waiting.pop(device))
            self._uploads[device] = upload
            effects.append(Open(upload.offer))
        return effects

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        assert len(self._waiting) <= self.limits.queue
        assert len(self._uploads) <= self.limits.max_grants
        assert not self._waiting.keys() & self._uploads.keys()
        for upload in self._uploads.values():
            assert len(upload.outstanding) <= self.limits.window
            assert not upload.outstanding.intersection(upload.missing)
            assert upload.deadline is None or upload.outstanding
        assert not self._waiting or len(self._uploads) == self.limits.max_grants
