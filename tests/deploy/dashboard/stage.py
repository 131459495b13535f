"""A federation of documents only: what an aggregator would publish, on a real broker."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from broker.events import Acknowledged, Connected, SessionEvent
from broker.happenings import EventDocument, EventKind, Happening, RecentDocument, Severity
from broker.monitor import (
    AggregatorDocument,
    ConfusionDocument,
    DeviceDocument,
    Document,
    FederationDocument,
    HistoryDocument,
    ParticipantDocument,
    RoundDocument,
    RoundSummary,
    RunDocument,
    StepDocument,
)
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
    MONITOR_EVENTS,
    MONITOR_FEDERATION,
    MONITOR_HISTORY,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Branch,
)
from host.inbox import Inbox

RUN = "lively-otter-3f2a"
SESSION = 7
PATIENCE_S = 20.0
STATES = ("training", "training", "training", "uploading", "fetching", "idle")

Kind = TypeVar("Kind", bound=SessionEvent)


class Stage:
    """Publishes and waits until the broker has it."""

    def __init__(self, broker: Mosquitto) -> None:
        self._topics = broker.settings("aggregator").topics
        self._inbox: Inbox[SessionEvent] = Inbox(100_000)
        settings = broker.settings("aggregator").model_copy(update={"reconnect_max_s": 0.2})
        self._session = Session(settings, "stage", self._inbox.put, will=None, subscriptions=[])
        self._numbers = 0

    def open(self) -> None:
        self._session.start()
        self._await(Connected)

    def close(self) -> None:
        self._session.stop()

    def tell(self, branch: Branch, document: Document | EventDocument, **fields: str | int) -> None:
        if isinstance(document, Document):
            document = document.model_copy(update={"at_unix_s": time.time(), "renewed_every_s": 30.0})
        payload = document.model_dump_json().encode()
        retain = branch is not MONITOR_EVENTS
        self._publish(self._topics.topic(branch, **fields), payload, retain=retain)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        ticket = self._session.publish(topic, payload, retain=retain)
        assert ticket is not None
        while self._await(Acknowledged).ticket != ticket:
            pass

    def await_connection(self) -> None:
        """The broker is back."""
        self._await(Connected)

    def _await(self, kind: type[Kind]) -> Kind:
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            if isinstance(event := self._inbox.get(left), kind):
                return event
        raise AssertionError(f"no {kind} in time")

    # -- the play ---------------------------------------------------------------------------------

    def begin(self, devices: int = 8, rounds: int = 6) -> None:
        """An aggregator, a run with closed rounds, and one that is open."""
        self.tell_aggregator()
        for index in range(devices):
            self.tell_device(index)
        for number in range(1, rounds + 1):
            self.tell_round(number, devices, is_open=number == rounds)
        self.tell_run(rounds)
        self.tell_federation(devices)
        lines = [summary(number) for number in range(1, rounds)]
        self.tell(MONITOR_HISTORY, HistoryDocument(run=RUN, rounds=tuple(lines)), run=RUN)
        self.tell_confusion(rounds - 1)
        self.tell_recent()

    def tell_aggregator(self, *, online: bool = True) -> None:
        document = AggregatorDocument(online=online, session=SESSION, version="0.1.0")
        self.tell(MONITOR_AGGREGATOR, document)

    def tell_federation(self, devices: int) -> None:
        document = FederationDocument(
            devices=devices, live=devices - 1, run=RUN, task="digits", phase="training"
        )
        self.tell(MONITOR_FEDERATION, document)

    def tell_run(self, number: int) -> None:
        document = RunDocument(
            run=RUN,
            task="digits",
            state="training",
            round=number,
            rounds=20,
            started_unix_s=time.time() - 300,
            parameters=18_410,
            seconds_left=412.0,
            metrics=summary(number).metrics,
        )
        self.tell(MONITOR_RUN, document, run=RUN)

    def tell_device(self, index: int, state: str | None = None, progress: float | None = None) -> None:
        state = state or ("lost" if index == 5 else STATES[index % len(STATES)])
        document = DeviceDocument(
            device=name_of(index),
            live=state != "lost",
            state=state,
            run=RUN,
            round=6,
            progress=(index * 37 % 100) / 100 if progress is None else progress,
            examples_per_s=400.0 + index,
            memory_bytes=61_000_000,
            temperature_c=48.0 + index % 9,
            battery=0.81 if index % 4 == 0 else None,
            examples=480,
            runtimes=("litert",),
            tags=("camera",),
            version="0.1.0",
            seconds_left=2.0 + index % 7,
            loss=0.41,
            asked=6,
            accepted=6 - index % 2,
            contribution=0.125,
            reliability=1 - index % 2 / 6,
            bytes_up=442_000,
            bytes_down=512_000,
            heard_at_unix_s=time.time(),
        )
        self.tell(MONITOR_DEVICE, document, device=document.device)

    def tell_round(self, number: int, devices: int, *, is_open: bool) -> None:
        line = summary(number)
        document = RoundDocument(
            run=RUN,
            round=number,
            phase="training" if is_open else "closed",
            target=devices,
            quorum=max(1, devices // 2),
            reported=devices // 3 if is_open else devices - 1,
            seconds=3.1 if is_open else line.seconds,
            seconds_left=52.0 if is_open else None,
            eta_s=6.0 if is_open else None,
            durations_s={} if is_open else {"training": 5.8, "aggregating": 0.5, "evaluating": 0.7},
            participants={name_of(index): part(index, number, is_open=is_open) for index in range(devices)},
            outcome=None if is_open else "completed",
            metrics={} if is_open else line.metrics,
            federated={} if is_open else line.federated,
            bytes_up=line.bytes_up,
            bytes_down=line.bytes_down,
        )
        self.tell(MONITOR_ROUND, document, run=RUN, round=number)

    def tell_confusion(self, number: int) -> None:
        counts = [
            [90 - 3 * row if row == column else (row * column) % 4 for column in range(10)]
            for row in range(10)
        ]
        document = ConfusionDocument(
            run=RUN, round=number, classes=tuple("0123456789"), counts=tuple(map(tuple, counts))
        )
        self.tell(MONITOR_CONFUSION, document, run=RUN)

    def tell_event(
        self, text: str, kind: EventKind = EventKind.JOINED, severity: Severity = Severity.INFO
    ) -> None:
        self._numbers += 1
        self.tell(
            MONITOR_EVENTS,
            EventDocument(
                number=100 + self._numbers,
                session=SESSION,
                at_unix_s=time.time(),
                kind=kind,
                severity=severity,
                text=text,
                device="pi-001",
            ),
        )

    def tell_recent(self) -> None:
        told = (
            (EventKind.RUN_STARTED, Severity.INFO, "run lively-otter-3f2a of digits started, 20 rounds"),
            (EventKind.ROUND_CLOSED, Severity.INFO, "round 5 completed: 7 of 8 updates, accuracy 0.86"),
            (EventKind.LOST, Severity.WARNING, "pi-005 lost: no heartbeat for 4.1 s"),
            (
                EventKind.REJECTED,
                Severity.ERROR,
                "update of pi-002 rejected: its norm is 40 times the others'",
            ),
        )
        events = tuple(
            Happening(
                number=index, at_unix_s=time.time() - 60 + index, kind=kind, severity=severity, text=text
            )
            for index, (kind, severity, text) in enumerate(told)
        )
        self.tell(MONITOR_RECENT, RecentDocument(session=SESSION, events=events))


def name_of(index: int) -> str:
    return f"pi-{index:03d}"


def summary(number: int) -> RoundSummary:
    right = 1 - 0.7 * math.exp(-number / 4)
    return RoundSummary(
        round=number,
        outcome="completed",
        reported=7,
        participants=8,
        seconds=7.0,
        metrics={"accuracy": right, "loss": 2.1 * math.exp(-number / 5)},
        federated={"accuracy": right - 0.04, "loss": 2.3 * math.exp(-number / 5)},
        bytes_up=515_000,
        bytes_down=590_000,
    )


def part(index: int, number: int, *, is_open: bool) -> ParticipantDocument:
    at = 0.3 + (index * 7 % 5) / 10
    trained = at + 2.0 + (index * 13 % 11) / 4
    steps = [
        ("idle", 0.0),
        ("fetching", at / 2),
        ("training", at),
        ("uploading", trained),
        ("reported", trained + 0.6),
    ]
    done = [step for step in steps if not is_open or step[1] < 3.1]
    loss = 2.2 * math.exp(-number / 5) * (1 + index % 5 / 9)
    return ParticipantDocument(
        status="accepted" if done[-1][0] == "reported" else ("lost" if index == 5 else "invited"),
        examples=480,
        training={"loss": loss, "accuracy": 1 - loss / 3},
        validation={"loss": loss * 1.1, "accuracy": 1 - loss / 2.8},
        evaluation={"loss": loss * 0.9, "accuracy": 1 - loss / 3.2},
        seconds=trained - at,
        bytes_up=73_600,
        bytes_down=84_000,
        steps=tuple(StepDocument(state=state, at_s=at_s) for state, at_s in done),
    )


@contextmanager
def staged(broker: Mosquitto) -> Iterator[Stage]:
    stage = Stage(broker)
    stage.open()
    try:
        yield stage
    finally:
        stage.close()
