"""`midge status` and `midge watch` against a real broker."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.events import Connected, Disconnected, Received, SessionEvent
from broker.monitor import AggregatorDocument
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.topics import MONITOR_AGGREGATOR, Topics
from deploy.command.status import SETTLED_S, _settle
from deploy.local.notice import posted
from deploy.viewing.feed import Feed
from tests.broker.peer import Peer
from tests.deploy.test_deploy_command import midge
from tests.deploy.viewing.scene import event, happened, scene, written

ROOT = Path(__file__).parents[2]


@pytest.fixture
def aggregator(mosquitto: Mosquitto, topics: Topics) -> Iterator[Peer]:
    with Peer(mosquitto.settings("aggregator"), "aggregator") as peer:
        for topic, payload in scene(topics):
            peer.send(topic, payload, retain=True)
        yield peer


def by(mosquitto: Mosquitto, user: str, timeout_s: float = 15) -> list[str]:
    settings = mosquitto.settings(user)
    return [
        *("--broker", settings.url, "--username", user, "--password-file", str(settings.password_file)),
        *("--federation", settings.federation, "--timeout", str(timeout_s)),
    ]


def left(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Wide enough for a whole line."""
    monkeypatch.setenv("COLUMNS", "150")
    return midge(monkeypatch, *arguments)


@pytest.mark.usefixtures("aggregator")
@pytest.mark.parametrize("user", ["monitor", "operator"])
def test_status_tells_federation_run_round_and_devices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mosquitto: Mosquitto, user: str
) -> None:
    assert left(monkeypatch, "status", *by(mosquitto, user)) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "federation lab  2 of 3 devices live: 1 lost, 1 training, 1 uploading"
    assert lines[1].startswith("run digits-1  round 3 of 10  about 10h00m left  accuracy 0.7")
    assert lines[2].startswith(
        "round 3  training  2 of 3 updates (quorum 2)  enough in 2h00m  3h00m left at most"
    )
    assert " ".join(lines[3].split()) == "device state done rate due temp battery counted remarks"
    assert lines[4].split()[:4] == ["cam-1", "lost", "-", "-"]
    assert lines[4].endswith("its data does not fit the contract")
    assert lines[5].split() == ["pi-1", "training", "50", "%", "42/s", "2h15m", "61°C", "-", "2/3"]
    assert lines[-1].endswith("! joined       cam-1 is lost")
    assert told.err == ""


@pytest.mark.usefixtures("aggregator")
def test_status_for_scripts_is_one_object_of_the_documents(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mosquitto: Mosquitto
) -> None:
    assert left(monkeypatch, "status", "--json", *by(mosquitto, "monitor")) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["schema_version"], told["believed"], told["trouble"]) == (1, "current", "")
    assert told["federation"]["live"] == 2
    assert told["run"] == told["runs"][0]
    assert [one["round"] for one in told["rounds"]] == [1, 2, 3]
    assert [one["round"] for one in told["history"]["rounds"]] == [1, 2]
    assert [one["device"] for one in told["devices"]] == ["cam-1", "pi-1", "pi-2"]
    assert [one["number"] for one in told["events"]] == [1, 2]


def test_an_aggregator_that_is_offline_is_69_after_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mosquitto: Mosquitto,
    aggregator: Peer,
    topics: Topics,
) -> None:
    offline = AggregatorDocument(online=False)
    aggregator.send(topics.topic(MONITOR_AGGREGATOR), written(offline), retain=True)
    assert left(monkeypatch, "status", *by(mosquitto, "monitor")) == 69
    told = capsys.readouterr()
    assert "run digits-1" in told.out
    assert told.err == "midge: the aggregator is offline; this is what it said last\n"


def test_an_aggregator_that_stopped_renewing_is_silent(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mosquitto: Mosquitto,
    aggregator: Peer,
    topics: Topics,
) -> None:
    old = AggregatorDocument(online=True, renewed_every_s=30.0, at_unix_s=1.0)
    aggregator.send(topics.topic(MONITOR_AGGREGATOR), old.payload(), retain=True)
    assert left(monkeypatch, "status", "--json", *by(mosquitto, "monitor")) == 69
    told = capsys.readouterr()
    assert json.loads(told.out)["believed"] == "silent"
    assert "the aggregator is silent for" in told.err


def test_an_aggregator_of_another_version_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mosquitto: Mosquitto,
    aggregator: Peer,
    topics: Topics,
) -> None:
    newer = AggregatorDocument(online=True, schema_version=2)
    aggregator.send(topics.topic(MONITOR_AGGREGATOR), newer.payload(), retain=True)
    assert left(monkeypatch, "status", "--json", *by(mosquitto, "monitor", 300)) == 69
    told = capsys.readouterr()
    assert json.loads(told.out)["believed"] == "unreadable"
    assert told.err.endswith("its aggregator is of another version; watch it with a midge of that version\n")


@pytest.mark.parametrize("verb", ["status", "watch"])
def test_a_broker_that_does_not_answer_is_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    nowhere = ("--broker", "mqtt://127.0.0.1:1", "--timeout", "0.5")
    assert left(monkeypatch, verb, *nowhere) == 69
    told = capsys.readouterr()
    assert told.out == ""
    assert "no answer within 0.5 s: no connection to mqtt://127.0.0.1:1, trying again: " in told.err
    assert "is the broker running" in told.err


@pytest.mark.parametrize("verb", ["status", "watch"])
def test_a_refused_account_is_77(
    monkeypatch: pytest.MonkeyPatch, mosquitto: Mosquitto, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    account = ("--username", "monitor", "--password-file", str(tmp_path / "wrong"))
    assert left(monkeypatch, verb, "--broker", mosquitto.settings("monitor").url, *account) == 77


@pytest.mark.usefixtures("aggregator")
def test_an_account_that_may_not_read_hears_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mosquitto: Mosquitto
) -> None:
    assert left(monkeypatch, "status", *by(mosquitto, "pi-1", 2.5)) == 69
    assert "or this account may not read its monitor/#" in capsys.readouterr().err


@pytest.mark.usefixtures("aggregator")
def test_the_demo_is_found_by_itself(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mosquitto: Mosquitto,
    tmp_path: Path,
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    with posted(mosquitto.settings("monitor"), mosquitto.settings("operator")):
        assert left(monkeypatch, "status", "--demo") == 0
    assert "run digits-1" in capsys.readouterr().out
    assert left(monkeypatch, "status", "--demo", "--timeout", "0.1") == 69
    told = capsys.readouterr().err
    assert told.startswith("no demo runs here yet: start it in another terminal (make demo); waiting 0.1 s\n")
    assert "midge: no demo runs here" in told


@pytest.mark.usefixtures("aggregator")
def test_watching_the_demo_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    with ExitStack() as demo:
        demo.enter_context(posted(mosquitto.settings("monitor"), mosquitto.settings("operator")))
        with watch("--demo") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().endswith("  joined       pi-1 joined\n")
            demo.close()
            mosquitto.stop()
            assert process.stderr.read().endswith("midge: the demo is over; this is what it said last\n")
    assert process.returncode == 0


def test_a_connection_that_ends_while_it_listens_is_waited_for() -> None:
    topics = Topics("lab")
    feed = Feed(BrokerSettings(url="mqtt://127.0.0.1:1", federation="lab"))
    kept: list[SessionEvent] = [
        Received(topic, payload, retained=True, expiry_s=None) for topic, payload in scene(topics)
    ]
    ends: list[SessionEvent] = [Connected("c1"), *kept, Disconnected("another took its place")]
    returns: list[SessionEvent] = [Connected("c2"), *kept]

    def come_back() -> None:
        for one in returns:
            feed._events.put(one)

    for one in ends:
        feed._events.put(one)
    timer = threading.Timer(2 * SETTLED_S, come_back)
    timer.start()
    _settle(feed, 20.0)
    timer.join()
    assert feed.connected


def watch(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.command.entry", "watch", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("ctrl_c")
def test_watch_writes_what_the_broker_has_and_what_comes_until_ctrl_c(
    mosquitto: Mosquitto, aggregator: Peer, topics: Topics
) -> None:
    with watch(*by(mosquitto, "monitor")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith("  joined       pi-1 joined\n")
        assert process.stdout.readline().endswith("! joined       cam-1 is lost\n")
        command = event(3, "paused", kind="command", user="ann", before="training", after="paused")
        aggregator.send(*happened(topics, command))
        assert process.stdout.readline().endswith("command      paused by ann (training -> paused)\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_watch_for_scripts_is_a_document_a_line_and_ends_with_its_reader(
    mosquitto: Mosquitto, aggregator: Peer, topics: Topics
) -> None:
    with watch("--json", *by(mosquitto, "monitor")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(one["session"], one["number"], one["schema_version"]) for one in told] == [
            (7, 1, 1),
            (7, 2, 1),
        ]
        aggregator.send(*happened(topics, event(3, "pi-3 joined")))
        assert json.loads(process.stdout.readline())["text"] == "pi-3 joined"
        process.stdout.close()
        assert process.wait(20) == 0
        assert "Error" not in process.stderr.read()


def test_watch_says_when_the_broker_goes_and_goes_on_when_it_is_back(
    mosquitto: Mosquitto, aggregator: Peer, topics: Topics
) -> None:
    with watch(*by(mosquitto, "monitor")) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stdout.readline().endswith("pi-1 joined\n")
        mosquitto.stop()
        assert process.stderr.readline().startswith("midge: no connection to mqtt://127.0.0.1")
        mosquitto.start()
        said = iter(process.stderr.readline, "")
        assert "midge: the aggregator is there\n" in said
        aggregator.online()
        aggregator.send(*happened(topics, event(3, "pi-3 joined")))
        assert any("pi-3 joined" in line for line in iter(process.stdout.readline, ""))
        process.terminate()
