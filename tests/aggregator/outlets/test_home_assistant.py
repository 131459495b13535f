import json
import random
from pathlib import Path

import pytest

from aggregator.outlets.entities import MAX_METRICS
from aggregator.outlets.home_assistant import (
    BIRTH_SPREAD_S,
    KEPT_EVERY_S,
    MESSAGES_PER_S,
    HomeAssistant,
)
from broker.discovery import Discovery
from broker.monitor import DeviceDocument, FederationDocument, RunDocument
from broker.topics import Topics

DISCOVERY = Discovery(Topics("lab"))
STATUS = DISCOVERY.status


class Broker:
    """What stands on a broker, and the aggregator that says it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.retained: dict[str, bytes] = {}
        self.said: list[str] = []
        self.accepts = True
        self.now = 0.0
        self.start()

    def start(self, discovery: Discovery | None = DISCOVERY, *excluded: str) -> None:
        """The aggregator begins anew."""
        self.home = HomeAssistant(discovery, self.folder, self.send, "0.1", 5.0, excluded, discreet=False)

    def send(self, topic: str, payload: bytes) -> bool:
        if self.accepts:
            self.said.append(topic)
            if payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)
        return self.accepts

    def pump(self, seconds: float = 10.0) -> list[str]:
        """What is said meanwhile."""
        self.said.clear()
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            self.home.pump(self.now)
        return list(self.said)

    def see(self, *devices: str) -> None:
        for device in devices:
            self.home.see(DeviceDocument(device=device, live=True, state="idle"))

    @property
    def names(self) -> set[str | None]:
        return {DISCOVERY.name_of(topic) for topic in self.retained}


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path)


def test_what_is_known_is_described_once(broker: Broker) -> None:
    broker.home.see(FederationDocument(devices=1, live=1, phase="idle"))
    broker.see("pi-1", "pi-1")
    assert broker.pump() == [DISCOVERY.topic("aggregator"), DISCOVERY.topic("pi-1")]
    broker.see("pi-1")
    assert broker.pump() == []


def test_a_device_that_is_excluded_is_taken_back_and_comes_again_when_it_is_admitted(broker: Broker) -> None:
    broker.see("pi-1", "pi-2")
    broker.pump()
    broker.home.forget("pi-1")
    broker.pump()
    assert broker.names == {"pi-2"}
    broker.see("pi-1")
    broker.pump()
    assert broker.names == {"pi-1", "pi-2"}


def test_a_device_that_was_never_described_is_not_taken_back(broker: Broker) -> None:
    broker.see("pi-1")
    broker.home.forget("pi-1")
    broker.home.forget("pi-2")
    assert broker.pump() == []


def test_a_new_run_and_its_metrics_are_described(broker: Broker) -> None:
    run = RunDocument(run="r1", task="t", state="training", round=1, rounds=2, started_unix_s=0.0)
    broker.home.see(run)
    broker.pump()
    topic = DISCOVERY.topic("aggregator")
    assert "metric_accuracy" not in json.loads(broker.retained[topic])["cmps"]
    broker.home.see(run.model_copy(update={"metrics": {"accuracy": 0.5, "accuracy on even": 0.1}}))
    broker.pump()
    parts = json.loads(broker.retained[topic])["cmps"]
    assert parts["metric_accuracy"]["state_topic"].endswith("monitor/runs/r1")
    assert "metric_accuracy on even" not in parts
    broker.home.see(run.model_copy(update={"run": "r2"}))
    broker.pump()
    parts = json.loads(broker.retained[topic])["cmps"]
    assert parts["metric_accuracy"]["state_topic"].endswith("monitor/runs/r2"), "shown until there are others"


def test_the_metrics_of_the_newest_run_come_before_those_of_earlier_ones(broker: Broker) -> None:
    run = RunDocument(run="r1", task="t", state="training", round=1, rounds=2, started_unix_s=0.0)
    broker.home.see(run.model_copy(update={"metrics": {f"a{i}": 0.5 for i in range(MAX_METRICS)}}))
    broker.home.see(run.model_copy(update={"run": "r2", "metrics": {"recall": 0.5}}))
    broker.pump()
    parts = json.loads(broker.retained[DISCOVERY.topic("aggregator")])["cmps"]
    assert "metric_recall" in parts
    assert sum(key.startswith("metric_") for key in parts) == MAX_METRICS


def test_the_file_is_not_written_for_each_device_of_a_large_fleet(broker: Broker) -> None:
    contents = set()
    for number in range(100):
        broker.see(f"pi-{number}")
        broker.pump(0.5)
        contents.add((broker.folder / "home-assistant.json").read_bytes())
    assert len(contents) <= 1 + 50 / KEPT_EVERY_S
    broker.pump(60.0)
    assert len(broker.names) == 100


def test_turned_off_it_takes_back_all_that_an_earlier_process_described(broker: Broker) -> None:
    broker.see("pi-1", "pi-2")
    broker.pump()
    broker.start(None)
    broker.see("pi-1")
    broker.pump()
    assert broker.retained == {}
    broker.start(None)
    assert broker.pump() == []
    assert list(broker.folder.iterdir()) == []


def test_another_prefix_and_who_was_excluded_meanwhile_leave_nothing_behind(broker: Broker) -> None:
    broker.see("pi-1", "pi-2")
    broker.pump()
    broker.start(DISCOVERY, "pi-2")
    broker.pump()
    assert broker.names == {"pi-1"}
    broker.start(Discovery(Topics("lab"), "elsewhere"))
    broker.see("pi-1")
    broker.pump()
    assert [*broker.retained] == ["elsewhere/device/midge_v1_lab_pi-1/config"]


def test_what_an_earlier_process_described_stays_until_it_is_known_to_be_over(broker: Broker) -> None:
    broker.see("pi-1")
    broker.pump()
    broker.start()
    assert broker.pump() == []
    assert broker.names == {"pi-1"}


def test_a_crash_before_it_was_said_leaves_nothing_that_is_not_found_again(broker: Broker) -> None:
    broker.see("pi-1")
    kept: list[str] = []

    def crash(topic: str, payload: bytes) -> bool:
        kept.extend(json.loads((broker.folder / "home-assistant.json").read_text()))
        return broker.send(topic, payload)

    broker.home._send = crash
    broker.pump()
    assert kept == [DISCOVERY.topic("pi-1")], "known before it is said"


def test_after_a_new_connection_and_at_home_assistants_birth_all_is_said_again(broker: Broker) -> None:
    broker.see("pi-1", "pi-2")
    both = broker.pump()
    broker.home.connected()
    assert broker.pump() == both
    broker.home.heard(STATUS, b"online", broker.now, retained=False)
    assert broker.pump(BIRTH_SPREAD_S + 2.0) == both
    assert broker.pump() == []


def test_neither_an_old_birth_nor_a_death_nor_another_topic_has_all_said_again(broker: Broker) -> None:
    broker.see("pi-1")
    broker.pump()
    broker.home.heard(STATUS, b"online", broker.now, retained=True)
    broker.home.heard(STATUS, b"offline", broker.now, retained=False)
    broker.home.heard("elsewhere", b"online", broker.now, retained=False)
    assert broker.pump(BIRTH_SPREAD_S + 2.0) == []


def test_births_are_answered_at_different_times(broker: Broker) -> None:
    random.seed(1)
    broker.see("pi-1")
    broker.pump()
    delays = set()
    for _ in range(5):
        broker.home.heard(STATUS, b"online", broker.now, retained=False)
        born = broker.now
        while not broker.pump(0.5):
            pass
        delays.add(broker.now - born)
    assert len(delays) > 1
    assert max(delays) <= BIRTH_SPREAD_S + 0.5


def test_a_large_fleet_is_described_at_a_bounded_rate(broker: Broker) -> None:
    devices = [f"pi-{i}" for i in range(300)]
    broker.see(*devices)
    assert len(broker.pump(10.0)) <= 11 * MESSAGES_PER_S
    broker.pump(60.0)
    assert broker.names == {*devices}


def test_what_cannot_be_sent_waits(broker: Broker) -> None:
    broker.accepts = False
    broker.see("pi-1")
    assert broker.pump() == []
    broker.accepts = True
    broker.pump()
    assert broker.names == {"pi-1"}


def test_a_damaged_or_unwritable_file_is_told_and_ends_nothing(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    file = broker.folder / "home-assistant.json"
    file.write_text("{")
    broker.start()
    assert "clear by hand" in caplog.text
    file.unlink()
    file.mkdir()
    (file / "in the way").touch()
    broker.see("pi-1")
    broker.pump()
    assert broker.names == {"pi-1"}
    assert caplog.text.count("cannot keep what Home Assistant was told") == 1


def test_off_it_neither_listens_nor_says_anything(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start(None)
    broker.see("pi-1")
    broker.home.heard(STATUS, b"online", 0.0, retained=False)
    assert (broker.home.subscriptions, broker.pump(20.0)) == ([], [])
