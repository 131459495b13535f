"""What comes from a broker, before it is shown."""

import pytest

from broker.monitor import AggregatorDocument, DeviceDocument
from broker.topics import MONITOR_AGGREGATOR, MONITOR_DEVICE, Topics
from deploy.viewing.reading import printable, read
from deploy.viewing.view import View

TOPICS = Topics("garden")
PI = TOPICS.topic(MONITOR_DEVICE, device="pi")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tüchtig, 81 °C", "tüchtig, 81 °C"),
        ("two\nlines\tof it", "two lines of it"),
        ("\x1b]0;title\x07\x1b[2J", "\ufffd]0;title\ufffd\ufffd[2J"),
        ("\x9b31m", "\ufffd31m"),
        ("a\u202eb", "a\ufffdb"),
    ],
    ids=["plain", "lines", "escape", "c1", "direction"],
)
def test_nothing_in_a_text_moves_a_cursor_or_turns_writing_round(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "payload",
    [b'{"a": NaN}', b"[-Infinity]", b'{"a": [1e999]}', b"1" + b"0" * 400, b"[" * 10_000, b'"\xff"', b""],
    ids=["nan", "infinity", "overflow", "long", "deep", "bytes", "empty"],
)
def test_what_no_document_has_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(payload)


def test_what_a_device_says_is_made_harmless_also_where_it_names_something() -> None:
    view = View(TOPICS)
    evil = "\x1b[2J"
    document = DeviceDocument(device="pi", live=True, state="idle", tags=(evil,), not_selected=evil)
    said = document.model_copy(update={"metrics": {f"loss{evil}": 1.0}}).payload()
    assert view.take(PI, said, 0.0)
    shown = view.devices["pi"]
    assert (shown.tags, shown.not_selected) == (("\ufffd[2J",), "\ufffd[2J")
    assert shown.metrics == {"loss\ufffd[2J": 1.0}


def test_a_number_that_is_none_leaves_what_was_known() -> None:
    view = View(TOPICS)
    said = DeviceDocument(device="pi", live=True, state="idle", progress=0.5).payload()
    assert view.take(PI, said, 0.0)
    assert not view.take(PI, said.replace(b'"progress":0.5', b'"progress":NaN'), 0.0)
    assert (view.devices["pi"].progress, view.unreadable) == (0.5, 1)
    assert view.take(PI, said, 0.0)
    assert view.unreadable == 0


def test_what_cannot_be_read_is_counted_once_a_topic_and_anew_after_a_connect() -> None:
    view = View(TOPICS)
    for _ in range(3):
        view.take(PI, b"no json", 0.0)
    assert view.unreadable == 1
    view.take(PI, b"", 0.0)
    assert view.unreadable == 0
    view.take(PI, b"no json", 0.0)
    view.forget_documents()
    assert view.unreadable == 0


def test_an_aggregator_of_another_version_is_foreign() -> None:
    view = View(TOPICS)
    view.take(PI, b"no json", 0.0)
    assert not view.is_foreign
    newer = AggregatorDocument(online=True, schema_version=2)
    view.take(TOPICS.topic(MONITOR_AGGREGATOR), newer.payload(), 0.0)
    assert view.is_foreign
