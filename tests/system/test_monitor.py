"""The monitor topics, read as a person would: with mosquitto_sub."""

import json
import shutil
import signal
import subprocess
from types import TracebackType
from typing import Self

import pytest

from broker.happenings import EventDocument, RecentDocument
from broker.monitor import (
    AggregatorDocument,
    ConfusionDocument,
    DeviceDocument,
    Document,
    FederationDocument,
    HistoryDocument,
    RoundDocument,
    RunDocument,
)
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_HISTORY,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Branch,
)
from tests.system.lab import PATIENCE_S, Lab

MODELS: dict[Branch, type[Document]] = {
    MONITOR_AGGREGATOR: AggregatorDocument,
    MONITOR_FEDERATION: FederationDocument,
    MONITOR_RECENT: RecentDocument,
    MONITOR_RUN: RunDocument,
    MONITOR_ROUND: RoundDocument,
    MONITOR_HISTORY: HistoryDocument,
    MONITOR_CONFUSION: ConfusionDocument,
    MONITOR_DEVICE: DeviceDocument,
}


def mosquitto_sub(lab: Lab, *options: str) -> list[str]:
    program = shutil.which("mosquitto_sub")
    assert program is not None
    account = lab.account("monitor")
    where = ["-h", "127.0.0.1", "-p", str(lab.mosquitto.port), "-u", "monitor"]
    return [
        program, *where, "-P", account.password() or "", "-t", f"{lab.topics.root}/monitor/#", "-v", *options
    ]  # fmt: skip


def retained(lab: Lab, count: int) -> dict[str, str]:
    """What mosquitto_sub prints of the monitor topics to somebody who comes late."""
    asked = mosquitto_sub(lab, "-C", str(count), "--retained-only")
    printed = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return dict(line.split(" ", 1) for line in printed.stdout.splitlines())


class Viewer:
    """A mosquitto_sub that watches from the beginning."""

    def __init__(self, lab: Lab) -> None:
        # At QoS 1 it has to answer each message. A line is handed on as soon as it is whole.
        command = ["stdbuf", "-oL", *mosquitto_sub(lab, "-q", "1", "-k", "5")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.events: list[EventDocument] = []
        """What it was told of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stall(self) -> None:
        """Read nothing any more, and stay connected."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Like a power cut; what it printed before can still be read."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self.read()

    def read(self, until: str = "") -> None:
        """Read on until an event of this kind."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, text = line.split(" ", 1)
            if topic.endswith("/events"):
                self.events.append(EventDocument.model_validate_json(text))
                if self.events[-1].kind == until:
                    return


@pytest.mark.timeout(240)
def test_mosquitto_sub_alone_tells_the_story_and_no_viewer_is_in_its_way(lab: Lab) -> None:
    with Viewer(lab) as watching, Viewer(lab) as slow, Viewer(lab) as killed:
        aggregator = lab.start_aggregator()
        lab.until(lambda seen: seen.get("aggregator", {}).get("online"))
        agents = lab.start_agents("pi-1", "pi-2")
        lab.until(lambda seen: seen.get("federation", {}).get("live") == 2)
        slow.read(until="joined")
        slow.stall()
        run = lab.start_run(rounds=3, min_devices=2)
        lab.until_round(run, 1, "closed")
        killed.kill()
        lab.until_ended(run)
        agents["pi-2"].kill()
        watching.read(until="lost")
        _shows_the_whole_run(lab, run)
        slow.kill()
        assert "run-ended" not in {event.kind for event in slow.events + killed.events}
        assert _story(watching.events) == [
            "joined pi-1",
            "joined pi-2",
            f"run-started {run}",
            *[f"{what} {run}" for _ in range(3) for what in ("round-opened", "round-closed")],
            f"run-ended {run}",
            "lost pi-2",
        ]
        (started,) = [event for event in watching.events if event.kind == "command"]
        assert (started.user, started.run, started.before) == ("operator", run, "- idle")
        assert started.after.startswith(f"{run} ")
        numbers = [event.number for event in watching.events]
        assert numbers == list(range(1, len(numbers) + 1)), "none is missing"

        aggregator.kill()
        lab.until(lambda seen: seen["aggregator"]["online"] is False)


def _story(events: list[EventDocument]) -> list[str]:
    """What happened, in order; the two devices start at once, and a command's answer may come any time."""
    joined = sorted(f"joined {event.device}" for event in events if event.kind == "joined")
    others = [event for event in events if event.kind not in {"joined", "command"}]
    return joined + [f"{event.kind} {event.device or event.run}" for event in others]


def _shows_the_whole_run(lab: Lab, run: str) -> None:
    """Somebody who comes late reads all that is to be known."""
    lab.until(lambda seen: seen["recent"]["events"][-1]["kind"] == "lost")
    printed = retained(lab, sum(bool(one) for name, one in lab.documents.items() if name != "events"))
    seen = {}
    for topic, text in printed.items():
        address = lab.topics.parse(topic)
        assert address is not None
        seen[address.branch] = MODELS[address.branch].model_validate_json(text)
    assert set(seen) == set(MODELS)
    root = f"{lab.topics.root}/monitor"
    last = json.loads(printed[f"{root}/runs/{run}/rounds/3"])
    assert (last["outcome"], last["reported"]) == ("completed", 2)
    assert set(last["metrics"]) == set(last["federated"]) == {"loss", "accuracy"}
    assert set(last["durations_s"]) == {"training", "aggregating", "evaluating"}
    part = last["participants"]["pi-1"]
    assert {"training", "uploading", "reported"} <= {step["state"] for step in part["steps"]}
    assert part["training"]["loss"] > 0
    assert set(part["validation"]) == set(part["evaluation"]) == {"loss", "accuracy"}
    whole = json.loads(printed[f"{root}/runs/{run}"])
    assert (whole["state"], whole["parameters"]) == ("finished", 15)
    assert whole["ended_unix_s"] > whole["started_unix_s"]
    history = json.loads(printed[f"{root}/runs/{run}/history"])["rounds"]
    assert [(one["round"], one["outcome"], one["reported"]) for one in history] == [
        (number, "completed", 2) for number in (1, 2, 3)
    ], "no round was harmed by a viewer"
    assert json.loads(printed[f"{root}/runs/{run}/confusion"])["classes"] == ["red", "green", "blue"]
    device = json.loads(printed[f"{root}/devices/pi-1"])
    assert (device["asked"], device["accepted"], device["reliability"]) == (3, 3, 1.0)
    assert 0 < device["contribution"] < 1
    assert json.loads(printed[f"{root}/devices/pi-2"])["state"] == "lost"
    assert json.loads(printed[f"{root}/aggregator"])["started_unix_s"] > 0
