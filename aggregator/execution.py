"""What the coordinator's effects come to: the ledger first, then devices, files and children."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aggregator.coordinator import effects as do
from aggregator.coordinator.core import Coordinator
from aggregator.ledger import Ledger
from aggregator.narrate import facts, narrate
from aggregator.post import Post
from aggregator.records import Record, UpdateRefused
from aggregator.shelf import Shelf
from aggregator.uploads import Uploads
from aggregator.workshop import Workshop
from broker.messages import Receipt, ReceiptOutcome
from host.errors import WireError

log = logging.getLogger(__name__)


class Execution:
    """Carries effects out; `note` is told of what happened and did not change the ledger."""

    def __init__(
        self,
        core: Coordinator,
        ledger: Ledger,
        post: Post,
        uploads: Uploads,
        workshop: Workshop,
        shelf: Shelf,
        note: Callable[[Sequence[Record]], None],
    ) -> None:
        self._core = core
        self._ledger = ledger
        self._post = post
        self._uploads = uploads
        self._workshop = workshop
        self._shelf = shelf
        self._note = note

    def table(self) -> dict[type[do.Effect], Callable[[Any], None]]:
        """What does each kind of effect."""
        return {
            do.Reject: lambda _: None,
            do.Persist: self._persist,
            do.Prepare: self._workshop.prepare,
            do.PublishBlobs: self._shelf.publish,
            do.RetractBlobs: self._shelf.retract,
            do.Announce: lambda effect: self._post.announce(effect.assignment, effect.expiry_s),
            do.Send: lambda effect: self._post.to_device(effect.device, effect.message),
            do.Admit: self._admit,
            do.AnswerFromLedger: self._answer_from_ledger,
            do.DropUploads: lambda effect: self._uploads.drop(effect.run, effect.round, time.monotonic()),
            do.Aggregate: self._workshop.aggregate,
            do.Evaluate: self._workshop.evaluate,
            do.WriteHistory: self._write_history,
        }

    def _persist(self, effect: do.Persist) -> None:
        self._ledger.commit(effect.records, effect.snapshot)
        for record in effect.records:
            log.log(*narrate(record), extra=facts(record))

    def _admit(self, effect: do.Admit) -> None:
        run = self._core.run
        assert run is not None
        try:
            layout = self._workshop.layout(run.run)
        except (OSError, WireError) as error:
            about = {"device": effect.device, "run": run.run, "round": effect.offer.round}
            text = "an update of %s must wait, the run's program cannot be read: %s"
            log.error(text, effect.device, error, extra=about)  # noqa: TRY400 - no bug of ours
            return
        self._uploads.admit(effect.device, effect.offer, layout, run.settings.max_norm, time.monotonic())

    def _answer_from_ledger(self, effect: do.AnswerFromLedger) -> None:
        offer = effect.offer
        transfer = offer.update.transfer
        outcome, reason = self._ledger.answer(offer.run, offer.round, effect.device, transfer)
        receipt = Receipt(run=offer.run, round=offer.round, transfer=transfer, outcome=outcome, reason=reason)
        self._post.to_device(effect.device, receipt)
        if outcome is ReceiptOutcome.LATE:
            self._note((UpdateRefused(offer.run, offer.round, effect.device, outcome),))

    def _write_history(self, effect: do.WriteHistory) -> None:
        run = self._core.run
        spooled = set() if run is None else {(run.run, number) for number in run.spooled}
        self._workshop.write_history(effect.run, spooled)
