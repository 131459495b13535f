"""What must hold at every step, found out independently of what the cores believe."""

from collections.abc import Iterable, Mapping

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.effects import Aggregate
from aggregator.coordinator.phases import TRANSITIONS, Phase, RoundOutcome
from aggregator.records import (
    Course,
    Invited,
    Record,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunStarted,
    Transition,
    UpdateAccepted,
)
from broker.messages import Message, Presence, Receipt, ReceiptOutcome
from deploy.simulator.fates import Fates, Key, ViolationError, look_at_spool, require
from edge_agent.snapshot import Snapshot

_TABLE = {(str(source), str(target)) for source, target in TRANSITIONS}


class Judge:
    """Remembers what was promised, and to whom."""

    def __init__(self) -> None:
        self.fates = Fates()
        self.receipts: dict[Key, ReceiptOutcome] = {}
        """What devices were told for good."""
        self.runs: dict[str, str] = {}
        """How each run ended, in order of their beginnings; empty for one that goes on."""
        self.aggregates: dict[tuple[str, int], str] = {}
        self._trained: set[Key] = set()
        self._transfers: dict[str, set[str]] = {}
        self._rounds: dict[str, int] = {}
        self._invited: set[Key] = set()
        self._kept: dict[str, tuple[int, int]] = {}
        self._session = -1

    # -- the aggregator ----------------------------------------------------------------------------

    def commits(self, records: tuple[Record, ...]) -> None:
        """Look at what is to be written into the ledger, before it is."""
        for record in records:
            if isinstance(record, UpdateAccepted):
                key = Key(record.run, record.round, record.device)
                require(key not in self.fates.accepted, f"a second update of {key} counts")
            elif isinstance(record, RoundOpened):
                newest = self._rounds.get(record.run, 0)
                require(record.round > newest, f"round {record.round} opens after round {newest}")
                self._rounds[record.run] = record.round
            elif isinstance(record, Transition) and "paused" not in (record.source, record.target):
                require((record.source, record.target) in _TABLE, f"{record} is in no table")
            elif isinstance(record, RoundClosed):
                self._closes(record, records)

    def _closes(self, closed: RoundClosed, records: tuple[Record, ...]) -> None:
        """Look whether how every participant spent the round is told with its end."""
        where = closed.run, closed.round
        told = [r for r in records if isinstance(r, Course) and (r.run, r.round) == where]
        cohort = {key.device for key in self._invited if key[:2] == where}
        require(sorted(cohort) == [one.device for one in told], f"{closed} tells of {told}, not of {cohort}")
        made_of = {} if closed.outcome == RoundOutcome.ABANDONED else self.fates.made_of(*where)
        for one in told:
            times = [at_s for _, at_s in one.steps]
            require(times == sorted(times), f"{one} goes back in time")
            reported = "reported" in dict(one.steps)
            require(reported or Key(*where, one.device) not in made_of, f"{one} lacks an update that counts")

    def committed(self, records: tuple[Record, ...]) -> None:
        """Note what is in the ledger now."""
        for record in records:
            self.fates.follow(record)
            if isinstance(record, RoundOpened):
                self._invited.update(Key(record.run, record.round, device) for device in record.cohort)
            elif isinstance(record, Invited):
                self._invited.add(Key(record.run, record.round, record.device))
            elif isinstance(record, RunStarted):
                self.runs[record.run] = ""
            elif isinstance(record, RunEnded):
                self.runs[record.run] = record.outcome

    def invites(self, run: str, number: int, devices: Iterable[str]) -> None:
        """Look at whom an announcement or an invitation asks to train."""
        unknown = [device for device in devices if Key(run, number, device) not in self._invited]
        require(not unknown, f"round {number} of {run} asks {unknown}, of whom the ledger knows nothing")

    def session_began(self, number: int) -> None:
        """Look at the number of the aggregator's new session."""
        require(number > self._session, f"session {number} begins after {self._session}")
        self._session = number

    def state(self, core: Coordinator) -> None:
        """Look at the coordinator's state after a step."""
        try:
            core.validate()
        except AssertionError as error:
            raise ViolationError(f"the coordinator contradicts itself: {error}") from error
        run = core.run
        if run is None or run.paused is not None or run.phase not in {Phase.TRAINING, Phase.EVALUATING}:
            return
        require(core.next_deadline() is not None, f"an open round in {run.phase} has no deadline")

    def aggregates_over(self, asked: Aggregate, spool: Mapping[Key, str]) -> str:
        """Look at what a round's strategy is given, and name its result by what went into it."""
        run, number = asked.run, asked.round
        carried = [Key(run, one.round, one.device) for one in asked.carried]
        given = [*(Key(run, number, device) for device, _ in asked.updates), *carried]
        wanted = self.fates.made_of(run, number)
        require(len(given) == len({*given}), f"round {number} counts an update twice: {given}")
        require({*given} == wanted.keys(), f"round {number} takes {sorted(given)}, due {sorted(wanted)}")
        look_at_spool(wanted, spool)
        for one in asked.carried:
            self.fates.weighs(run, one)
        content = repr(sorted(wanted.items()))
        before = self.aggregates.setdefault((run, number), content)
        require(before == content, f"round {number}, aggregated again, is another: {before} and {content}")
        return content

    # -- devices -----------------------------------------------------------------------------------

    def death_heard(self, core: Coordinator, device: str, death: Presence, now: float, truth: str) -> bool:
        """Whether this death is stale, and the coordinator knows better: then it must change nothing."""
        known = core.fleet.devices.get(device)
        stale = truth not in ("", death.connection)
        return (
            stale
            and known is not None
            and known.presence.connection == truth
            and core.fleet.alive(device, now)
        )

    def survived(self, core: Coordinator, device: str, now: float) -> None:
        """Look whether a device outlived a stale death."""
        require(core.fleet.alive(device, now), f"a stale will killed {device}")

    def trains(self, device: str, run: str, number: int) -> None:
        """A trainer begins."""
        key = Key(run, number, device)
        require(key not in self.receipts, f"{key} trains again after its receipt, {self.receipts.get(key)}")
        require(key not in self._trained, f"{key} trains again, although its update was kept")

    def keeps(self, device: str, snapshot: Snapshot) -> None:
        """A device's snapshot is on its disk."""
        order = (snapshot.session, snapshot.sequence)
        before = self._kept.get(device, (0, 0))
        require(order >= before, f"{device} falls from announcement {before} back to {order}")
        self._kept[device] = order
        if snapshot.pending is not None:
            pending = snapshot.pending
            self._trained.add(Key(pending.run, pending.round, device))

    def offers(self, device: str, offer: Message, kept: Snapshot) -> None:
        """An offer is said: a power cut must not make it untrue."""
        require(kept.pending == offer, f"{device} offers what is not on its disk")

    def answered(self, device: str, receipt: Receipt) -> None:
        """A receipt reached a device, which will delete its update."""
        key = Key(receipt.run, receipt.round, device)
        digest = self.fates.accepted.get(key, "")
        taken = receipt.outcome is ReceiptOutcome.ACCEPTED
        require(
            taken == digest.startswith(receipt.transfer) if digest else not taken,
            f"{device} is told {receipt.outcome} of {receipt.transfer}, accepted was {digest[:16] or 'none'}",
        )
        wrong = receipt.outcome in (
            ReceiptOutcome.REJECTED,
            ReceiptOutcome.DUPLICATE,
            ReceiptOutcome.UNKNOWN_RUN,
        )
        why = f"{receipt.outcome} {receipt.reason or ''}"
        require(not wrong, f"{device} did nothing wrong, and is told {why} of {receipt.transfer}")
        self.receipts.setdefault(key, receipt.outcome)
        self._transfers.setdefault(device, set()).add(receipt.transfer)

    def deletes(self, device: str, transfer: str, *, lost: bool) -> None:
        """A device lets go of an update."""
        answered = transfer in self._transfers.get(device, ())
        require(answered or lost, f"{device} deletes {transfer}, which nobody answered")
