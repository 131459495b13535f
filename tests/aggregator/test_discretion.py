"""Of a sealed federation nobody who reads the broker learns what a single device's data is like."""

import json
from pathlib import Path

import pytest

from aggregator.coordinator import events as on
from aggregator.discretion import as_it_is, without_data, without_details
from aggregator.records import Declined
from aggregator.watch.story import happening
from broker.happenings import EventKind
from broker.messages import DeclineReason, Report
from broker.monitor import (
    ConfusionDocument,
    DeviceDocument,
    FederationDocument,
    HistoryDocument,
    ParticipantDocument,
    RoundDocument,
    RoundSummary,
)
from tests.aggregator.coordinator.world import RUN
from tests.aggregator.watch.screen import ROUND_TOPIC, Screen

SECRET = 0.123456
METRICS = {"loss": SECRET}


def test_what_tells_of_a_devices_data_is_left_out_of_its_document() -> None:
    device = DeviceDocument(
        device="a",
        live=True,
        state="idle",
        examples=123456,
        metrics=METRICS,
        loss=SECRET,
        contribution=SECRET,
        asked=4,
        accepted=3,
        reliability=0.75,
    )
    shown = without_data(device)
    assert isinstance(shown, DeviceDocument)
    assert "123456" not in shown.payload().decode()
    assert (shown.asked, shown.accepted, shown.reliability) == (4, 3, 0.75), "that it came, everybody sees"
    assert as_it_is(device) is device


def test_what_tells_of_participants_data_is_left_out_of_a_round() -> None:
    part = ParticipantDocument(
        status="accepted",
        examples=123456,
        training=METRICS,
        validation=METRICS,
        evaluation=METRICS,
        bytes_up=4100,
    )
    document = RoundDocument(
        run="r",
        round=1,
        phase="closed",
        target=1,
        quorum=1,
        reported=1,
        participants={"a": part},
        metrics={"loss": 0.5},
    )
    shown = without_data(document)
    assert isinstance(shown, RoundDocument)
    assert "123456" not in shown.payload().decode()
    assert (shown.participants["a"].status, shown.participants["a"].bytes_up) == ("accepted", 4100)
    assert shown.metrics == {"loss": 0.5}, "of the model, which everybody has"


@pytest.mark.parametrize("outcome", [None, "completed"], ids=["open", "closed"])
def test_means_over_the_devices_are_shown_once_all_reports_are_in(outcome: str | None) -> None:
    document = RoundDocument(
        run="r", round=1, phase="p", target=1, quorum=1, reported=1, federated=METRICS, outcome=outcome
    )
    shown = without_data(document)
    assert isinstance(shown, RoundDocument)
    assert shown.federated == ({} if outcome is None else METRICS)


def test_every_field_that_could_tell_of_data_was_thought_of() -> None:
    harmless = {"status", "seconds", "bytes_up", "bytes_down", "steps", "reason"}
    hidden = {"examples", "training", "validation", "evaluation"}
    assert set(ParticipantDocument.model_fields) == harmless | hidden, "decide about the new one"


def test_what_is_of_all_devices_together_stays() -> None:
    line = RoundSummary(
        round=1, outcome="completed", reported=1, participants=1, seconds=1.0, metrics=METRICS
    )
    for document in (
        FederationDocument(devices=1, live=1, phase="idle"),
        HistoryDocument(run="r", rounds=(line,)),
        ConfusionDocument(run="r", round=1, classes=("x",), counts=((3,),)),
    ):
        assert without_data(document) is document


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("holds 7 examples, the task needs 100", "holds too few examples"),
        ("declined run r: data: label 12 of 3,000 images is unknown", "declined run r: data"),
        ("not available, data: label 12 of 3,000 images: unknown", "not available, data"),
        ("lacks tag indoor", "lacks tag indoor"),
    ],
    ids=["examples", "declined", "unavailable", "tags"],
)
def test_why_a_device_is_not_selected_is_told_without_what_it_holds(why: str, shown: str) -> None:
    told = DeviceDocument(device="a", live=True, state="idle", not_selected=why)
    assert without_data(told).model_dump()["not_selected"] == shown


def test_why_a_device_declines_is_told_in_a_word() -> None:
    event = happening(Declined("r", 2, "a", DeclineReason.DATA, "label 12 of 3,000 images"), 5.0)
    assert event is not None
    assert without_details(event).text == "round 2: a declined, data"
    other = event.model_copy(update={"kind": EventKind.LOST})
    assert without_details(other) is other


def test_nothing_that_is_said_of_a_sealed_federation_tells_of_one_devices_data() -> None:
    screen = Screen(Path("nowhere"), discreet=True, rounds=2)
    world = screen.world
    world.begin_training("a", "b")
    world.upload("a")
    screen.look()
    detail = "label 12 of 3,000 images"
    world.tell(on.DeviceReport("b", Report(run=RUN, round=1, declined=DeclineReason.DATA, detail=detail)))
    screen.look()
    world.aggregated()
    world.published()
    world.report("a")
    world.evaluated()
    for _ in range(10):
        screen.look()
    assert screen.shown[ROUND_TOPIC]["outcome"] == "completed"
    part, device = screen.shown[ROUND_TOPIC]["participants"]["a"], screen.shown["devices/a"]
    assert (part["status"], part["examples"], part["training"]) == ("accepted", 0, {})
    assert (part["validation"], part["evaluation"]) == ({}, {})
    assert (device["accepted"], device["examples"], device["metrics"]) == (1, 0, {})
    assert (device["loss"], device["contribution"]) == (None, None)
    assert "declined" in [event.kind for event in screen.told]
    said = json.dumps(screen.shown) + "".join(event.model_dump_json() for event in screen.told)
    assert "3,000" not in said
