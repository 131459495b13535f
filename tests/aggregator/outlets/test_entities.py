"""Discovery payloads, held against what Home Assistant documents and against our own documents."""

import json
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aggregator.coordinator.phases import Phase
from aggregator.outlets.entities import device_payload, federation_payload
from broker.discovery import Discovery
from broker.monitor import AggregatorDocument, DeviceDocument, Document, FederationDocument, RunDocument
from broker.topics import Topics

# The documented keys, as the schemas of Home Assistant core 2024.11.3 have them:
# https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
# https://www.home-assistant.io/integrations/sensor.mqtt/#configuration-variables
# https://www.home-assistant.io/integrations/binary_sensor.mqtt/#configuration-variables
AVAILABILITY = {"availability", "availability_mode", "availability_template", "availability_topic"}
AVAILABILITY |= {"payload_available", "payload_not_available"}
ENTITY = AVAILABILITY | {
    "device_class",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "expire_after",
    "force_update",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "object_id",
    "p",
    "platform",
    "qos",
    "state_topic",
    "unique_id",
    "value_template",
}
KEYS = {
    "sensor": ENTITY
    | {
        "last_reset_value_template",
        "options",
        "state_class",
        "suggested_display_precision",
        "unit_of_measurement",
    },
    "binary_sensor": ENTITY | {"off_delay", "payload_off", "payload_on"},
}
ROOT = AVAILABILITY | {"command_topic", "encoding", "qos", "state_topic"}
# Of the abbreviations, those of the three parts and of the platform are used.
REQUIRED = {"dev", "o", "cmps"}
ORIGIN = {"name", "sw_version", "support_url"}
ORIGINS_DEVICE = {
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
}
AVAILABILITY_ITEM = {"topic", "payload_available", "payload_not_available", "value_template"}
# https://www.home-assistant.io/integrations/sensor#device-class with the units that are allowed,
# https://www.home-assistant.io/integrations/binary_sensor/#device-class
UNITS: dict[str | None, set[str | None]] = {
    "battery": {"%"},
    "duration": {"d", "h", "min", "s", "ms"},
    "enum": {None},
    "temperature": {"°C", "°F", "K"},
    None: {None, "%"},
}
BINARY_CLASSES = {"connectivity"}
CATEGORIES = {None, "config", "diagnostic"}

DISCOVERY = Discovery(Topics("lab", "hall/a.b"))
RUN = RunDocument(
    run="r1",
    task="blobs",
    state="training",
    round=3,
    rounds=10,
    started_unix_s=1.0,
    seconds_left=12.5,
    metrics={"accuracy": 0.75, 'od"d': 0.5},
)
DEVICE = DeviceDocument(
    device="pi-1", live=True, state="training", progress=0.256, temperature_c=61.0, battery=0.5, loss=0.25
)
DOCUMENTS: dict[str, Document] = {
    "aggregator": AggregatorDocument(online=True),
    "federation": FederationDocument(devices=3, live=2, phase="training", run="r1"),
    "runs/r1": RUN,
    "devices/pi-1": DEVICE,
}


def federation() -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(federation_payload(DISCOVERY, "0.1", 5.0, "r1", RUN.metrics))
    return payload


def device(*, discreet: bool = False) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(device_payload(DISCOVERY, "0.1", "pi-1", "0.0.9", discreet=discreet))
    return payload


def entities() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(payload, part) for payload in (federation(), device()) for part in payload["cmps"].values()]


def shown(template: str, topic: str, documents: dict[str, Document] = DOCUMENTS) -> str:
    """As Home Assistant renders it: Jinja in a sandbox, with the payload as `value_json`."""
    document = documents[topic.removeprefix(f"{DISCOVERY.topics.root}/monitor/")]
    environment = ImmutableSandboxedEnvironment(autoescape=False)
    return environment.from_string(template).render(value_json=json.loads(document.payload()))


def values(payload: dict[str, Any], documents: dict[str, Document] = DOCUMENTS) -> dict[str, str]:
    return {
        key: shown(part["value_template"], part.get("state_topic") or payload["state_topic"], documents)
        for key, part in payload["cmps"].items()
    }


def test_payloads_have_the_documented_keys_and_no_others() -> None:
    for payload in (federation(), device()):
        assert payload.keys() >= REQUIRED
        assert payload.keys() - REQUIRED <= ROOT
        assert {"name"} <= payload["o"].keys() <= ORIGIN
        assert {"identifiers"} <= payload["dev"].keys() <= ORIGINS_DEVICE
        for part in payload["cmps"].values():
            assert part.keys() <= KEYS[part["p"]]
            assert {"p", "unique_id", "name", "value_template"} <= part.keys()
            assert "state_topic" in part or "state_topic" in payload
        for place in (payload, *payload["cmps"].values()):
            assert all(
                {"topic"} <= item.keys() <= AVAILABILITY_ITEM for item in place.get("availability", [])
            )


def test_classes_units_and_categories_go_together() -> None:
    for _, part in entities():
        assert part.get("entity_category") in CATEGORIES
        if part["p"] == "binary_sensor":
            assert part["device_class"] in BINARY_CLASSES
            continue
        kind = part.get("device_class")
        assert part.get("unit_of_measurement") in UNITS[kind]
        assert ("options" in part) == (kind == "enum")
        assert part.get("state_class") in {None, "measurement"}
        assert not (kind == "enum" and "state_class" in part)


def test_no_key_has_a_space_at_which_home_assistant_would_split_it() -> None:
    payload = json.loads(federation_payload(DISCOVERY, "0.1", 5.0, "r1", ["f1 score"]))
    assert "metric_f1_score" in payload["cmps"]
    for described in (payload, federation(), device()):
        assert not [key for key in described["cmps"] if " " in key]


def test_every_id_is_of_one_entity_and_every_topic_is_home_assistants() -> None:
    ids = [part["unique_id"] for _, part in entities()]
    assert len(ids) == len(set(ids))
    assert DISCOVERY.topic("pi-1") == "homeassistant/device/hall_a_b_v1_lab_pi-1/config"
    assert device()["dev"]["via_device"] in federation()["dev"]["identifiers"]


def test_the_templates_read_our_documents() -> None:
    assert values(federation()) == {
        "online": "ON",
        "phase": "training",
        "run": "r1",
        "live": "2",
        "round": "3",
        "seconds_left": "12.5",
        "metric_accuracy": "0.75",
        "metric_od_d": "0.5",
    }
    assert values(device()) == {
        "state": "training",
        "progress": "25.6",
        "temperature": "61.0",
        "battery": "50.0",
        "loss": "0.25",
        "live": "ON",
    }


def test_what_is_not_known_is_unknown_to_home_assistant() -> None:
    nothing: dict[str, Document] = {
        "aggregator": AggregatorDocument(online=False),
        "federation": FederationDocument(devices=0, live=0, phase="idle"),
        "runs/r1": RUN.model_copy(update={"metrics": {}, "seconds_left": None}),
        "devices/pi-1": DeviceDocument(device="pi-1", live=False, state="lost"),
    }
    found = values(federation(), nothing) | values(device(), nothing)
    unknown = {key for key, value in found.items() if value == "None"}
    metrics = {"metric_accuracy", "metric_od_d"}
    assert unknown == {"run", "seconds_left", "temperature", "battery", "loss"} | metrics
    assert (found["online"], found["state"]) == ("OFF", "lost")


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("live", [True, False])
def test_a_device_is_available_while_it_and_the_aggregator_live(*, online: bool, live: bool) -> None:
    documents = DOCUMENTS | {
        "aggregator": AggregatorDocument(online=online),
        "devices/pi-1": DEVICE.model_copy(update={"live": live}),
    }
    described = device()
    words = [shown(item["value_template"], item["topic"], documents) for item in described["availability"]]
    assert described["availability_mode"] == "all"
    assert words == ["online" if online else "offline", "online" if live else "offline"]
    of_live = described["cmps"]["live"]["availability"]
    assert [item["topic"] for item in of_live] == [f"{DISCOVERY.topics.root}/monitor/aggregator"]


def test_every_phase_is_an_option() -> None:
    assert {*Phase, "paused"} == {*federation()["cmps"]["phase"]["options"]}


def test_whether_the_aggregator_is_there_does_not_depend_on_itself_and_expires() -> None:
    online = federation()["cmps"]["online"]
    assert "availability" not in online
    assert "availability" not in federation()
    assert online["expire_after"] == 15


def test_where_devices_seal_what_tells_of_their_data_nothing_of_it_is_described() -> None:
    assert device().keys() == device(discreet=True).keys()
    assert device()["cmps"].keys() - device(discreet=True)["cmps"].keys() == {"loss"}


def test_a_federation_without_a_run_is_described_without_one() -> None:
    payload = json.loads(federation_payload(DISCOVERY, "0.1", 5.0, None, ()))
    assert payload["cmps"].keys() == {"online", "phase", "run", "live"}
