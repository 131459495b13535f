from pathlib import Path

import pytest

from aggregator.kept import Kept
from aggregator.outlets.outlets import Outlets
from aggregator.post import Post
from aggregator.records import DeviceExcluded, RunStarted
from aggregator.settings import AggregatorSettings
from broker.session import Session
from broker.settings import BrokerSettings
from broker.signing import Signer
from tests.aggregator.watch.screen import Screen


def test_an_outlet_that_fails_keeps_no_record_from_the_ledger_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    screen = Screen()
    settings = AggregatorSettings(
        broker=BrokerSettings(url="mqtt://127.0.0.1:1"), folder=tmp_path, home_assistant=True
    )
    signer = Signer(tmp_path / "signing.key")
    session = Session(settings.broker, "aggregator", lambda _event: None, will=None, subscriptions=[])
    post = Post(session, settings.broker.topics, 7, "0.1.0", 5.0, signer)
    outlets = Outlets(Kept(settings, screen.world.ledger, signer), session, post, screen.watch, "0.1.0")
    screen.world.ledger.listener = outlets.note
    outlets._home._pending = None  # type: ignore[assignment]  # broken, on purpose
    screen.world.ledger.commit([DeviceExcluded("a", "stolen"), RunStarted("r", "t", {}, 0)], None)
    outlets.look(1.0)
    assert screen.world.ledger.excluded() == {"a": "stolen"}
    screen.look()
    assert [event.kind for event in screen.told] == ["excluded", "run-started"], "the watch goes on"
    assert "an outlet failed" in caplog.text
    assert "what Home Assistant is told failed" in caplog.text
