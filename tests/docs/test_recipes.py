"""The recipe for Telegraf names topics and keys that there are."""

import re
import tomllib
from typing import Any

from broker.monitor import DeviceDocument, Document, FederationDocument, RunDocument
from broker.topics import MONITOR_DEVICE, MONITOR_FEDERATION, MONITOR_RUN, Branch, Topics
from tests.docs.pages import ROOT, blocks

DOCUMENTS: dict[Branch, type[Document]] = {
    MONITOR_FEDERATION: FederationDocument,
    MONITOR_RUN: RunDocument,
    MONITOR_DEVICE: DeviceDocument,
}


def telegraf() -> dict[str, Any]:
    (block,) = [one for one in blocks(ROOT / "docs/monitor.md") if "inputs.mqtt_consumer" in one.text]
    (consumer,) = tomllib.loads(block.text)["inputs"]["mqtt_consumer"]
    found: dict[str, Any] = consumer
    return found


def test_telegraf_subscribes_to_the_documents() -> None:
    wanted = [re.sub("/lab/", "/+/", Topics("lab").filter(branch)) for branch in DOCUMENTS]
    assert telegraf()["topics"] == wanted
    assert [part["topic"] for part in telegraf()["topic_parsing"]] == wanted


def test_telegraf_takes_measurement_and_tags_from_the_topics_levels() -> None:
    for part, (branch, measurement) in zip(
        telegraf()["topic_parsing"],
        {MONITOR_FEDERATION: "federation", MONITOR_RUN: "runs", MONITOR_DEVICE: "devices"}.items(),
        strict=True,
    ):
        levels = Topics("lab").topic(branch, run="r1", device="pi-1").split("/")
        named = dict(zip(part["measurement"].split("/"), levels, strict=True))
        tags = dict(zip(part["tags"].split("/"), levels, strict=True))
        assert named["measurement"] == measurement
        assert tags["federation"] == "lab"
        assert {"run": "r1", "device": "pi-1"}.items() >= {
            (key, tags[key]) for key in tags.keys() - {"_", "federation"}
        }


def test_telegraf_leaves_out_lists_and_what_is_a_tag() -> None:
    (parser,) = telegraf()["json_v2"]
    excluded = set(parser["object"][0]["excluded_keys"])
    fields = {name: field for model in DOCUMENTS.values() for name, field in model.model_fields.items()}
    lists = {name for name, field in fields.items() if "tuple" in str(field.annotation)}
    assert excluded <= fields.keys()
    assert lists | {"run", "device"} <= excluded
    assert parser["timestamp_path"] in fields
