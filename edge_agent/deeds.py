"""What the lifecycle's effects do: on the disk, on the broker, in the trainer."""

import logging
from collections.abc import Callable, Iterable
from functools import singledispatchmethod

from edge_agent import effects, events
from edge_agent.disk import Disk
from edge_agent.downloads import Downloads
from edge_agent.training import Trainer
from edge_agent.uploads import Uploads
from edge_agent.voice import Voice

log = logging.getLogger(__name__)


class Deeds:
    """Carries effects out, one by one."""

    def __init__(
        self,
        disk: Disk,
        downloads: Downloads,
        uploads: Uploads,
        trainer: Trainer,
        voice: Voice,
        sealing_key: Callable[[], str | None],
        note_drop: Callable[[str, str], None],
    ) -> None:
        self._disk = disk
        self._downloads = downloads
        self._uploads = uploads
        self._trainer = trainer
        self._voice = voice
        self._sealing_key = sealing_key
        self._note_drop = note_drop

    @singledispatchmethod
    def carry_out(self, effect: effects.Effect, now: float) -> Iterable[events.Event]:
        """Do it, and give what became of it; raises StorageError."""
        raise NotImplementedError(f"nobody carries out {effect!r} at {now}")

    @carry_out.register
    def _persist(self, effect: effects.Persist, now: float) -> Iterable[events.Event]:
        self._disk.save(effect.snapshot, now)
        return ()

    @carry_out.register
    def _publish(self, effect: effects.Publish, _now: float) -> Iterable[events.Event]:
        self._voice.say(effect.branch, effect.message, self._sealing_key())
        return ()

    @carry_out.register
    def _fetch(self, effect: effects.Fetch, now: float) -> Iterable[events.Event]:
        return self._downloads.fetch(effect.refs, now)

    @carry_out.register
    def _stop_fetching(self, _effect: effects.StopFetching, _now: float) -> Iterable[events.Event]:
        self._downloads.stop()
        return ()

    @carry_out.register
    def _start_job(self, effect: effects.Train | effects.Evaluate, now: float) -> Iterable[events.Event]:
        return self._trainer.start(effect, now)

    @carry_out.register
    def _stop_training(self, _effect: effects.StopTraining, _now: float) -> Iterable[events.Event]:
        self._trainer.stop()
        return ()

    @carry_out.register
    def _send_chunks(self, effect: effects.SendChunks, _now: float) -> Iterable[events.Event]:
        return self._uploads.send(effect.update, effect.indexes)

    @carry_out.register
    def _delete_update(self, effect: effects.DeleteUpdate, _now: float) -> Iterable[events.Event]:
        self._uploads.delete(effect.transfer)
        return ()

    @carry_out.register
    def _log(self, effect: effects.Log, _now: float) -> Iterable[events.Event]:
        level = logging.WARNING if effect.warning else logging.INFO
        about = {} if effect.run is None else {"run": effect.run, "round": effect.round}
        log.log(level, "%s", effect.text, extra=about)
        return ()

    @carry_out.register
    def _reject(self, effect: effects.Reject, _now: float) -> Iterable[events.Event]:
        if effect.warning:
            self._note_drop("ignored", effect.reason)
        log.debug("ignored: %s", effect.reason)
        return ()
