"""What every rule of the coordinator works on: the run, the fleet, the clock, and what is said of them."""

from aggregator.coordinator import effects as do
from aggregator.coordinator.cohort import round_seed
from aggregator.coordinator.fitness import available
from aggregator.coordinator.fleet import Fleet
from aggregator.coordinator.phases import TRANSITIONS, Decision, Phase, RunOutcome
from aggregator.coordinator.state import Carried, Model, Round, Run
from aggregator.records import Decided, Record, RunEnded, Transition, UpdateAccepted, UpdateRefused
from broker.messages import Assignment, AssignmentPhase, Offer, Receipt, ReceiptOutcome, RejectReason

_ANNOUNCED = {Phase.TRAINING: AssignmentPhase.TRAINING, Phase.EVALUATING: AssignmentPhase.EVALUATING}


class IllegalEventError(Exception):
    """The event does not fit the state; nothing was changed."""


def refuse_unless(legal: bool, reason: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Give up on an event, before it changed anything."""
    if not legal:
        raise IllegalEventError(reason)


class Context:
    """The coordinator's state while it handles an event; times in seconds of the clock given to `handle`."""

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self.fleet = Fleet(heartbeat_s)
        self.run: Run | None = None
        self.now = now
        self.deadline: float | None = None
        self.published = False
        self.due: dict[str, float] = {}
        """When participants' updates are due, as of the last look at their pace."""
        self.look_at = now
        self.lost: set[str] = set()
        """Participants whose loss is noted."""
        self.news = True
        """Whether the event can change who lives, who fits, or what the phase waits for."""
        self.records: list[Record] = []
        self.effects: list[do.Effect] = []

    # -- what stands ------------------------------------------------------------------------------

    def active_run(self) -> Run:
        """The run, or the event is illegal."""
        if self.run is None:
            raise IllegalEventError("no run is active")
        return self.run

    def open_round(self) -> tuple[Run, Round, Model]:
        """The run with its open round and its model, or the event is illegal."""
        run = self.active_run()
        if run.round is None or run.model is None:
            raise IllegalEventError("no round is open")
        return run, run.round, run.model

    def run_in(self, phase: Phase, run_id: str, number: int | None = None) -> Run:
        """The run, when it is this one, in this phase and round; else the event is illegal."""
        run = self.active_run()
        refuse_unless(run.run == run_id and run.phase is phase, f"run {run_id} is not {phase}")
        refuse_unless(number is None or number == run.last_round, f"round {number} is not the open one")
        return run

    def awaited(self) -> set[str]:
        """Devices that live and still owe the open round an update or, when it is evaluated, a report."""
        run, current, _ = self.open_round()
        if run.phase is Phase.EVALUATING:
            asked = available(self.fleet, run, self.now) if run.settings.federated_evaluation else ()
            return set(asked) - current.reports.keys()
        return self.fleet.living_among(current.outstanding, self.now)

    # -- the clock ---------------------------------------------------------------------------------

    @property
    def overdue(self) -> bool:
        """Whether the phase's deadline has come."""
        return self.deadline is not None and self.now >= self.deadline

    @property
    def seconds_left(self) -> float | None:
        """Time left in the phase, None when it has no deadline."""
        if self.deadline is not None:
            return max(0.0, self.deadline - self.now)
        return self.run.time_left_s if self.run else None

    def set_deadline(self, run: Run, seconds: float) -> None:
        """Give the phase this long; while paused the clock stands."""
        if run.paused is None:
            self.deadline = self.now + seconds
        else:
            run.time_left_s = seconds

    def begin_watching(self) -> None:
        """A round opens: of its participants nothing is known yet."""
        self.due, self.lost = {}, set()
        self.look_at = self.now + self.fleet.heartbeat_s

    def stop_clock(self, run: Run, reason: str) -> None:
        """Pause the run."""
        run.time_left_s, run.paused, self.deadline = self.seconds_left, reason, None
        self.records.append(Transition(run.run, run.last_round or None, run.phase, "paused", reason))
        self.announce()

    def start_clock(self, run: Run) -> None:
        """Let a paused run go on with the time that was left."""
        left, run.time_left_s, run.paused = run.time_left_s, None, None
        self.deadline = None if left is None else self.now + left
        self.records.append(Transition(run.run, run.last_round or None, "paused", run.phase, "resumed"))
        self.announce()

    # -- what is said ------------------------------------------------------------------------------

    def go(self, run: Run, target: Phase, reason: str = "") -> None:
        """Take a transition of the table."""
        why = reason or TRANSITIONS[run.phase, target]
        self.records.append(Transition(run.run, run.last_round or None, run.phase, target, why))
        run.phase = target
        run.time_left_s = self.deadline = None
        self.due.clear()

    def end_run(self, run: Run, outcome: RunOutcome, reason: str) -> None:
        """Back to idle: uploads are dropped, blobs leave the broker, the model stays in the run's folder."""
        if run.round is not None:
            self.effects.append(do.DropUploads(run.run, run.round.number))
        if run.late is not None:
            self.effects.append(do.DropUploads(run.run, run.late.round))
        self.drop_carried(run, run.carried, "the run ended")
        self.go(run, Phase.IDLE, reason)
        self.records.append(RunEnded(run.run, outcome, reason))
        self.run, self.published = None, False
        self._say(do.Announce(None))
        self.effects += [do.RetractBlobs(()), do.WriteHistory(run.run)]

    def drop_carried(self, run: Run, carried: list[Carried], reason: str) -> None:
        """Give up late updates that no model took in."""
        for one in carried:
            self.records.append(Decided(run.run, one.round, one.device, Decision.DROPS, reason))

    def publish(self, run: Run, model: Model) -> None:
        """Put the model on the broker; nothing is announced before that is done."""
        self.published = False
        self.effects.append(do.PublishBlobs(run.run, model.blobs))

    def announce(self) -> None:
        """Tell the devices what to do now, once the blobs that it takes are on the broker."""
        run = self.run
        if run is None or not self.published:
            return
        asked = run.phase is Phase.TRAINING or (
            run.phase is Phase.EVALUATING and run.settings.federated_evaluation
        )
        if run.round is None or not asked:
            self._say(do.Announce(None))
        elif run.paused is not None:
            self._say(do.Announce(self._assignment(AssignmentPhase.PAUSED)))
        else:
            self._say(do.Announce(self._assignment(_ANNOUNCED[run.phase]), self.seconds_left))

    def accept(self, device: str, offer: Offer) -> None:
        """Have an update in the spool count."""
        accepted = UpdateAccepted(
            run=offer.run,
            round=offer.round,
            device=device,
            digest=offer.update.digest,
            size=offer.update.size,
            examples=offer.examples,
            metrics=offer.metrics,
            validation=offer.validation,
            seconds=offer.seconds,
        )
        self.records.append(accepted)
        self.receipt(device, offer, ReceiptOutcome.ACCEPTED)

    def reject(self, device: str, offer: Offer, reason: RejectReason) -> None:
        """Give back an update that cannot be used."""
        rejected = ReceiptOutcome.REJECTED
        self.records.append(UpdateRefused(offer.run, offer.round, device, rejected, reason))
        self.receipt(device, offer, rejected, reason)

    def receipt(
        self, device: str, offer: Offer, outcome: ReceiptOutcome, reason: RejectReason | None = None
    ) -> None:
        """Give the final answer to an offer."""
        transfer = offer.update.transfer
        message = Receipt(run=offer.run, round=offer.round, transfer=transfer, outcome=outcome, reason=reason)
        self.effects.append(do.Send(device, message))

    def _say(self, announcement: do.Announce) -> None:
        """Only the last word of an event goes out, where the first one stood: every device hears each."""
        for place, effect in enumerate(self.effects):
            if isinstance(effect, do.Announce):
                self.effects[place] = announcement
                return
        self.effects.append(announcement)

    def _assignment(self, phase: AssignmentPhase) -> Assignment:
        run, current, model = self.open_round()
        return Assignment(
            run=run.run,
            round=current.number,
            phase=phase,
            theta=model.theta,
            program=model.program,
            layout=model.layout,
            runtime=model.runtime,
            contract=model.contract,
            needs=model.needs,
            settings=run.settings.training(round_seed(run.settings.seed, current.number), run.completed),
            carries=run.carries,
            cohort=None if run.phase is Phase.EVALUATING else tuple(sorted(current.cohort)),
        )
