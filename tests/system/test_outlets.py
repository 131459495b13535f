"""Home Assistant, Prometheus and a webhook, beside a run of real processes."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.control import Request, Verb
from broker.discovery import Discovery
from broker.events import Received
from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics
from deploy.command.control import ask
from tests.aggregator.outlets.receiver import Receiver
from tests.broker.peer import Peer
from tests.system.lab import DEVICES, PATIENCE_S, ROLES, Lab

TOPICS = Topics("lab")
DISCOVERY = Discovery(TOPICS)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with an account of Home Assistant, which says there when it starts."""
    folder = tmp_path / "mosquitto"
    users = ROLES | dict.fromkeys(DEVICES, Role.DEVICE) | {"home": Role.MONITOR}
    broker = Mosquitto(folder, TOPICS, users, discovery=DISCOVERY)
    with (folder / "acl").open("a") as rules:
        rules.write(f"\nuser home\ntopic write {DISCOVERY.status}\n")
    with broker:
        yield broker


@pytest.fixture
def lab(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Lab]:
    with Lab(tmp_path, mosquitto.settings("aggregator")) as started:
        yield started


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        "|".join((sample.name, *sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def described(peer: Peer, *names: str) -> dict[str, Received]:
    """The next description of each of these; an empty one takes it back."""
    found: dict[str, Received] = {}
    while found.keys() < {*names}:
        message = peer.until(Received)
        name = DISCOVERY.name_of(message.topic)
        if name in names:
            found[name] = message
    return found


@pytest.mark.timeout(240)
def test_a_run_is_told_to_home_assistant_prometheus_and_a_webhook_that_hangs(
    lab: Lab, mosquitto: Mosquitto, receiver: Receiver
) -> None:
    receiver.hold.clear()
    port = free_port()
    aggregator = lab.start_aggregator(
        home_assistant=True, metrics_listen=f"127.0.0.1:{port}", webhook_url=receiver.url
    )
    lab.start_agents("pi-1", "pi-2")
    with Peer(mosquitto.settings("home"), "home", DISCOVERY.filter) as home:
        found = described(home, "aggregator", "pi-1", "pi-2")
        assert json.loads(found["pi-1"].payload)["dev"]["name"] == "pi-1"
        run = lab.start_run(rounds=1, min_devices=2, batch_size=16)
        assert lab.until_ended(run)["state"] == "finished"
        (call,) = receiver.until(1)
        receiver.hold.set()
        assert (call.json["kind"], call.json["run"], call.json["federation"]) == ("run-ended", run, "lab")
        assert call.json["summary"]["metrics"].keys() == {"loss", "accuracy"}

        figures = scraped(port)
        assert figures["midge_rounds_total|completed"] == 1
        assert figures["midge_updates_total|accepted"] == 2
        assert figures["midge_update_bytes_total"] > 0
        assert figures["midge_devices_live"] == 2
        assert 0 <= figures["midge_run_metric|accuracy"] <= 1

        assert home.send(DISCOVERY.status, b"online").ok
        again = described(home, "aggregator", "pi-1", "pi-2")
        components = json.loads(again["aggregator"].payload)["cmps"]
        assert components["round"]["state_topic"] == f"{TOPICS.root}/monitor/runs/{run}"
        assert "metric_accuracy" in components

        exclude = Request(id="0" * 16, verb=Verb.EXCLUDE, device="pi-2")
        assert ask(lab.account("operator"), exclude, PATIENCE_S).ok
        assert described(home, "pi-2")["pi-2"].payload == b""

        assert aggregator.stop() == 0
        lab.start_aggregator()
        gone = described(home, "aggregator", "pi-1")
        assert {message.payload for message in gone.values()} == {b""}
    with Peer(mosquitto.settings("home"), "late", DISCOVERY.filter, f"{TOPICS.root}/monitor/#") as late:
        assert DISCOVERY.name_of(late.until(Received).topic) is None, "nothing is retained"


@pytest.mark.timeout(120)
def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        aggregator = lab.start_aggregator(metrics_listen=f"127.0.0.1:{port}")
        lab.until(lambda seen: seen.get("aggregator", {}).get("online"))
        assert f"metrics_listen = 127.0.0.1:{port}: Address already in use" in lab.log("aggregator")
        assert aggregator.stop() == 0
