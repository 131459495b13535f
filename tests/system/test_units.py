"""The units as a real systemd runs them, in their sandbox: services, broker, a round of training."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mosquitto import find_mosquitto
from tests.system.lab import TASK, Lab, broker_table, write_examples
from tests.system.pid1 import LIBRARIES, PYTHON, PYTHONPATH, ROOT, UNDER_TEST, Systemd, why_not

UNITS = ROOT / "deploy/units"
AGENT, AGGREGATOR, BROKER = "midge-agent.service", "midge-aggregator.service", "midge-broker.service"
MODULES = {AGENT: "edge_agent.main", AGGREGATOR: "aggregator.main"}
PROGRAMS = {
    AGENT: "/opt/midge/current/bin/midge-agent",
    AGGREGATOR: "/opt/midge-aggregator/current/bin/midge-aggregator",
}
REASON = why_not()

pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(240)]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """Not started yet, with the units and what they start."""
    machine = Systemd(tmp_path / "machine")
    for unit in (AGENT, AGGREGATOR, BROKER):
        machine.copy(UNITS / unit, f"/etc/systemd/system/{unit}")
        # There is no journal inside.
        output = f"[Service]\nStandardOutput=append:/out/{unit}.log\nStandardError=inherit\n"
        machine.put(f"/etc/systemd/system/{unit}.d/log.conf", output)
    for unit, program in PROGRAMS.items():
        script = (
            f"#!/bin/sh\nexport PYTHONPATH={PYTHONPATH} LD_LIBRARY_PATH={LIBRARIES}\n"
            f'exec {PYTHON} -P -m {MODULES[unit]} "$@" --log-level debug\n'
        )
        machine.put(program, script, 0o755)
    yield machine


def put_agent(machine: Systemd, lab: Lab, device: str) -> None:
    account = lab.account(device)
    assert account.password_file is not None
    machine.put("/etc/midge/password", account.password_file.read_text(), 0o600)
    inside = account.model_copy(update={"password_file": Path(f"/run/credentials/{AGENT}/password")})
    data = lab.folder / "data.npz"
    write_examples(data, 60, seed=1)
    machine.copy(data, "/srv/data.npz")
    lines = f'device = "{device}"\n[data]\nkind = "npz"\npath = "/srv/data.npz"\n'
    machine.put("/etc/midge/agent.toml", lines + broker_table(inside))


def put_aggregator(machine: Systemd, lab: Lab) -> None:
    account = lab.account("aggregator")
    assert account.password_file is not None
    machine.put("/etc/midge/aggregator/password", account.password_file.read_text(), 0o600)
    inside = account.model_copy(update={"password_file": Path(f"/run/credentials/{AGGREGATOR}/password")})
    task = UNDER_TEST / "source" / TASK.relative_to(ROOT)
    lines = f'folder = "/var/lib/midge-aggregator"\nheartbeat_s = 0.5\n[tasks.blobs]\nfile = {json.dumps(str(task))}\n'
    machine.put("/etc/midge/aggregator/aggregator.toml", lines + broker_table(inside))


def test_both_services_train_a_round_in_their_sandbox(lab: Lab, systemd: Systemd) -> None:
    put_agent(systemd, lab, "pi-1")
    put_aggregator(systemd, lab)
    with systemd:
        assert systemd.systemctl("start", AGGREGATOR, AGENT) == ""
        lab.until(lambda seen: seen.get("federation", {}).get("live") == 1)
        run = lab.start_run(rounds=2, runtime="litert", federated_evaluation=True)
        document = lab.until_ended(run)
        assert document["state"] == "finished", document
        assert systemd.until(AGENT, "StatusText", "idle") == "connected; idle"
        run = lab.start_run(rounds=1, min_devices=2, runtime="litert")
        assert systemd.until(AGGREGATOR, "StatusText", run) == f"connected; run {run} waiting round 0"
        for unit in (AGENT, AGGREGATOR):
            assert systemd.show(unit, "NRestarts") == "0"
            status = systemd.run("cat", f"/proc/{systemd.show(unit, 'MainPID')}/status").stdout
            assert "Seccomp:\t2" in status
            assert "CapEff:\t0000000000000000" in status
        state = systemd.run("ls", "-ld", "/var/lib/private/midge-agent").stdout
        assert state.startswith("drwx------"), state


def test_a_wrong_setting_is_not_tried_again(lab: Lab, systemd: Systemd) -> None:
    systemd.put("/etc/midge/agent.toml", "device = 'pi 1'\n")
    with systemd:
        systemd.systemctl("start", AGENT)
        assert systemd.until(AGENT, "ActiveState", "failed")
        assert (systemd.show(AGENT, "ExecMainStatus"), systemd.show(AGENT, "NRestarts")) == ("78", "0")
