"""What people and tools see: the documents under `monitor/`, written when they change and renewed in time."""

import time
from collections.abc import Callable, Mapping

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.evaluating import sum_metrics
from aggregator.coordinator.fitness import judged, shortage
from aggregator.coordinator.fleet import Device
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Participant, Round, Run
from aggregator.discretion import as_it_is, without_data
from aggregator.ledger import Ledger, ParticipantRow, RoundRow
from broker.messages import RunSummary
from broker.monitor import (
    DeviceDocument,
    Document,
    FederationDocument,
    IncidentDocument,
    IncidentsDocument,
    ParticipantDocument,
    RoundDocument,
    RunDocument,
    means,
)
from broker.needs import Misfit
from broker.topics import (
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_INCIDENTS,
    MONITOR_ROUND,
    MONITOR_RUN,
    Topics,
)

RENEWED_EVERY_S = 30.0
KEPT_ROUNDS = 20
KEPT_RUNS = 5

Publish = Callable[[str, bytes], bool]
Misfits = Mapping[str, Misfit | None]


class Watch:
    """Publishes what differs from what was published last, at most every `rate_s` seconds."""

    def __init__(
        self,
        core: Coordinator,
        ledger: Ledger,
        topics: Topics,
        publish: Publish,
        dropped: Callable[[], int],
        rate_s: float,
        *,
        discreet: bool = False,
    ) -> None:
        self._core = core
        self._ledger = ledger
        self._topics = topics
        self._publish = publish
        self._dropped = dropped
        self._rate_s = rate_s
        self._shown = without_data if discreet else as_it_is
        self.waits = ""
        """Why the run waits, as of the last look; empty while it does not wait for devices."""
        self._published: dict[str, tuple[Document, float]] = {}
        self._newest: RunSummary | None = next(iter(ledger.runs(1)), None)
        self._incidents = _incidents(ledger)
        self._closed: tuple[str, RoundDocument] | None = None
        self._due = 0.0

    def next_deadline(self) -> float:
        """When `look` is due."""
        return self._due

    def forget(self) -> None:
        """The broker may have lost what was published: say it again."""
        self._published.clear()
        self._due = 0.0

    def round_closed(self, run: str) -> None:
        """The ledger knows something new of a run: its last round's final document, and its own."""
        self._newest = next((summary for summary in self._ledger.runs(1) if summary.run == run), self._newest)
        closed = [row for row in self._ledger.rounds(run) if row.outcome is not None]
        if closed:
            last = closed[-1]
            document = _closed_round(run, last, self._ledger.participants(run, last.round))
            if self._closed is not None:
                self._published.pop(self._closed[0], None)
            self._closed = self._topics.topic(MONITOR_ROUND, run=run, round=last.round), document
        for row in closed[-KEPT_ROUNDS - 1 : -KEPT_ROUNDS]:
            self._publish(self._topics.topic(MONITOR_ROUND, run=run, round=row.round), b"")
        self._due = 0.0

    def excluded(self, device: str) -> None:
        """A device is known no more: its document leaves the broker."""
        topic = self._topics.topic(MONITOR_DEVICE, device=device)
        self._published.pop(topic, None)
        self._publish(topic, b"")
        self._due = 0.0

    def mishap(self) -> None:
        """The ledger has a new incident."""
        self._incidents = _incidents(self._ledger)
        self._due = 0.0

    def run_began(self) -> None:
        """One run more: the documents of the oldest leave the broker."""
        for summary in self._ledger.runs(KEPT_RUNS + 1)[KEPT_RUNS:]:
            self._publish(self._topics.topic(MONITOR_RUN, run=summary.run), b"")
            for row in self._ledger.rounds(summary.run)[-KEPT_ROUNDS:]:
                self._publish(self._topics.topic(MONITOR_ROUND, run=summary.run, round=row.round), b"")

    def look(self, now: float) -> None:
        """Publish every document that changed or is due for renewal."""
        self._due = now + self._rate_s
        self._show(self._topics.topic(MONITOR_FEDERATION), self._federation(now), now)
        if self._incidents.incidents:
            self._show(self._topics.topic(MONITOR_INCIDENTS), self._incidents, now)
        misfits = self._misfits(now)
        self.waits = self._shortage(misfits)
        for name, device in self._core.fleet.devices.items():
            document = self._device(name, device, misfits.get(name), now)
            due = self._core.due.get(name)
            timed = {
                "seconds_left": None if due is None else round(max(0.0, due - now), 1),
                "heard_at_unix_s": round(time.time() - now + device.heard_at, 1),
            }
            self._show(self._topics.topic(MONITOR_DEVICE, device=name), document, now, **timed)
        if self._closed is not None:
            self._show(*self._closed, now)
        run = self._core.run
        if run is not None and (self._newest is None or self._newest.run != run.run):
            self._newest = next(iter(self._ledger.runs(1)), None)
        if run is None and self._newest is not None:
            topic = self._topics.topic(MONITOR_RUN, run=self._newest.run)
            self._show(topic, _ended_run(self._newest), now)
        elif run is not None:
            self._show(self._topics.topic(MONITOR_RUN, run=run.run), self._run(run), now)
            if run.round is not None:
                topic = self._topics.topic(MONITOR_ROUND, run=run.run, round=run.round.number)
                left = {"seconds_left": self._core.seconds_left}
                self._show(topic, self._round(run, run.round, now), now, **left)

    def _show(self, topic: str, document: Document, now: float, **timed: float | None) -> None:
        """Publish a document that is not what it was; `timed` are fields that time alone changes."""
        document = self._shown(document)
        before = self._published.get(topic)
        if before is not None and now - before[1] < RENEWED_EVERY_S and before[0] == document:
            return
        timed |= {"at_unix_s": time.time(), "renewed_every_s": RENEWED_EVERY_S}
        if self._publish(topic, document.model_copy(update=timed).payload()):
            self._published[topic] = (document, now)

    def _federation(self, now: float) -> FederationDocument:
        fleet, run = self._core.fleet, self._core.run
        return FederationDocument(
            devices=len(fleet.devices),
            live=sum(fleet.alive(name, now) for name in fleet.devices),
            run=run.run if run else None,
            task=run.task if run else None,
            phase=_phase(run),
            messages_dropped=self._dropped(),
        )

    def _run(self, run: Run) -> RunDocument:
        newest = self._newest
        return RunDocument(
            run=run.run,
            task=run.task,
            state=_phase(run),
            round=run.last_round,
            rounds=run.settings.rounds,
            started_unix_s=newest.started_unix_s if newest else 0.0,
            metrics=newest.metrics if newest else {},
            reason=run.paused or self.waits or run.complaint,
        )

    def _misfits(self, now: float) -> Misfits:
        """Why devices are not selected; of nobody while there is no run that was prepared."""
        run = self._core.run
        return judged(self._core.fleet, run, now) if run is not None and run.model is not None else {}

    def _shortage(self, misfits: Misfits) -> str:
        run = self._core.run
        if run is None or run.paused is not None or run.phase is not Phase.WAITING:
            return ""
        return shortage(misfits.values(), run.settings)

    def _round(self, run: Run, current: Round, now: float) -> RoundDocument:
        reports = [report for report in current.reports.values() if report is not None]
        parts = {name: self._participant(name, part, now) for name, part in current.cohort.items()}
        return RoundDocument(
            run=run.run,
            round=current.number,
            phase=_phase(run),
            target=current.target,
            quorum=current.quorum,
            reported=len(current.accepted),
            reason=current.note,
            participants=parts,
            metrics=means(current.metrics),
            federated=means(sum_metrics(reports)),
            bytes_up=sum(part.size for part in current.cohort.values()),
        )

    def _participant(self, name: str, part: Participant, now: float) -> ParticipantDocument:
        reason = part.rejected or part.declined or ("" if part.accepted else part.note)
        return ParticipantDocument(
            status=_status(part, alive=self._core.fleet.alive(name, now)),
            examples=part.examples,
            validation=means(part.validation),
            reason=reason,
        )

    def _device(self, name: str, device: Device, misfit: Misfit | None, now: float) -> DeviceDocument:
        beat, presence = device.heartbeat, device.presence
        alive = self._core.fleet.alive(name, now)
        run = self._core.run
        part = run.round.cohort.get(name) if run is not None and run.round is not None else None
        model = run.model if run is not None else None
        return DeviceDocument(
            device=name,
            live=alive,
            state=(beat.state if beat is not None else "idle") if alive else "lost",
            run=beat.run if beat else None,
            round=beat.round if beat else None,
            progress=round(beat.progress, 3) if beat else 0.0,
            examples_per_s=beat.examples_per_s if beat else 0.0,
            memory_bytes=beat.memory_bytes if beat else 0,
            temperature_c=beat.temperature_c if beat else None,
            battery=beat.battery if beat else None,
            bytes_up=beat.bytes_up if beat else 0,
            bytes_down=beat.bytes_down if beat else 0,
            examples=presence.examples,
            runtimes=presence.runtimes,
            tags=presence.tags,
            version=presence.version,
            conflict=device.conflict,
            measured_per_s=presence.speeds.get(model.program.digest) if model is not None else None,
            not_selected=misfit.why if misfit is not None else "",
            metrics=means(part.validation) if part else {},
        )


def _incidents(ledger: Ledger) -> IncidentsDocument:
    return IncidentsDocument(
        incidents=tuple(
            IncidentDocument(
                kind=row.kind,
                at_unix_s=row.unix_s,
                run=row.run,
                round=row.round,
                subject=row.subject,
                detail=row.detail,
            )
            for row in ledger.incidents()
        )
    )


def _phase(run: Run | None) -> str:
    if run is None:
        return Phase.IDLE
    return "paused" if run.paused is not None else run.phase


def _status(part: Participant, *, alive: bool) -> str:
    if part.accepted is not None:
        return "accepted"
    if part.rejected is not None:
        return "rejected"
    if part.declined is not None:
        return "declined"
    if not alive:
        return "lost"
    return "straggles" if part.straggles else "invited"


def _ended_run(summary: RunSummary) -> RunDocument:
    return RunDocument(
        run=summary.run,
        task=summary.task,
        state=summary.state,
        round=summary.rounds_done,
        rounds=summary.rounds,
        started_unix_s=summary.started_unix_s,
        metrics=summary.metrics,
        reason=summary.reason,
    )


def _closed_round(run: str, row: RoundRow, participants: list[ParticipantRow]) -> RoundDocument:
    return RoundDocument(
        run=run,
        round=row.round,
        phase="closed",
        target=row.target,
        quorum=row.quorum,
        reported=row.accepted,
        bytes_up=row.bytes_up,
        participants={part.device: _closed_part(part) for part in participants},
        outcome=row.outcome,
        reason=row.reason or "",
        metrics=means(row.metrics),
        federated=means(row.federated),
    )


def _closed_part(row: ParticipantRow) -> ParticipantDocument:
    status = "accepted" if row.digest else row.refused or ("declined" if row.declined else "missing")
    return ParticipantDocument(
        status=status,
        examples=row.examples or 0,
        validation=means(row.validation),
        reason=row.refused_reason or row.declined or "",
    )
