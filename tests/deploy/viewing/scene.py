"""A federation as its documents tell it; what is left is long enough to stand still for a test."""

import time
from collections.abc import Iterator

from broker.happenings import EventDocument, EventKind, Happening, RecentDocument, Severity
from broker.monitor import (
    AggregatorDocument,
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
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_EVENTS,
    MONITOR_FEDERATION,
    MONITOR_HISTORY,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Topics,
)

RUN = "digits-1"
SESSION = 7


def written(document: Document) -> bytes:
    """As the aggregator publishes it now."""
    return document.model_copy(update={"at_unix_s": time.time(), "renewed_every_s": 30.0}).payload()


def device(name: str, **fields: object) -> DeviceDocument:
    known = {"device": name, "live": True, "state": "idle", "asked": 3, "accepted": 2, "reliability": 0.67}
    return DeviceDocument.model_validate(known | fields)


def event(number: int, text: str, severity: Severity = Severity.INFO, **fields: object) -> EventDocument:
    known = {"number": number, "at_unix_s": 1000.0 + number, "kind": EventKind.JOINED, "session": SESSION}
    return EventDocument.model_validate(known | {"text": text, "severity": severity} | fields)


def happened(topics: Topics, one: EventDocument) -> tuple[str, bytes]:
    """An event as it is streamed."""
    return topics.topic(MONITOR_EVENTS), one.model_dump_json().encode()


DEVICES = (
    device(
        "pi-1", state="training", progress=0.5, examples_per_s=42.0, temperature_c=61.0, seconds_left=8130.0
    ),
    device("pi-2", state="uploading", battery=0.8, loss=0.4),
    device("cam-1", live=False, state="lost", not_selected="its data does not fit the contract"),
)


def round_document(number: int, outcome: str | None = None) -> RoundDocument:
    part = ParticipantDocument(
        status="accepted",
        examples=100,
        training={"loss": 1.0 / number},
        validation={"accuracy": 0.9},
        seconds=12.0,
        steps=(StepDocument(state="training", at_s=1.0), StepDocument(state="reported", at_s=13.0)),
    )
    return RoundDocument(
        run=RUN,
        round=number,
        phase="closed" if outcome else "training",
        target=3,
        quorum=2,
        reported=2,
        seconds_left=None if outcome else 10_830.0,
        eta_s=None if outcome else 7230.0,
        participants={"pi-1": part, "pi-2": part},
        outcome=outcome,
    )


def scene(topics: Topics) -> Iterator[tuple[str, bytes]]:
    """Topics and payloads: three devices in round 3 of a run."""
    rows = tuple(
        RoundSummary(
            round=number,
            outcome="completed",
            reported=2,
            participants=3,
            seconds=20.0,
            metrics={"accuracy": 0.5 + number / 10, "loss": 1.0 / number},
        )
        for number in (1, 2)
    )
    documents: dict[str, Document] = {
        topics.topic(MONITOR_AGGREGATOR): AggregatorDocument(online=True, session=SESSION),
        topics.topic(MONITOR_FEDERATION): FederationDocument(
            devices=3,
            live=2,
            states={"training": 1, "uploading": 1},
            run=RUN,
            task="digits",
            phase="training",
        ),
        topics.topic(MONITOR_RUN, run=RUN): RunDocument(
            run=RUN,
            task="digits",
            state="training",
            round=3,
            rounds=10,
            started_unix_s=1000.0,
            seconds_left=36_030.0,
            metrics={"accuracy": 0.7},
        ),
        topics.topic(MONITOR_HISTORY, run=RUN): HistoryDocument(run=RUN, rounds=rows),
        topics.topic(MONITOR_RECENT): RecentDocument(
            session=SESSION,
            events=tuple(
                Happening.model_validate(one.model_dump())
                for one in (event(1, "pi-1 joined"), event(2, "cam-1 is lost", Severity.WARNING))
            ),
        ),
        **{topics.topic(MONITOR_DEVICE, device=one.device): one for one in DEVICES},
    }
    for number in (1, 2):
        documents[topics.topic(MONITOR_ROUND, run=RUN, round=number)] = round_document(number, "completed")
    documents[topics.topic(MONITOR_ROUND, run=RUN, round=3)] = round_document(3)
    for topic, document in documents.items():
        yield topic, written(document)
