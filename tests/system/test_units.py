"""The units as a real systemd runs them, in their sandbox: services, broker, a round of training."""

import json
from pathlib import Path

import numpy as np
import pytest

from aggregator.evaluator import MODULE
from host.children import ask_once
from tests.system.lab import KERAS_TASK, Lab, broker_table, write_examples
from tests.system.pid1 import ROOT, UNDER_TEST, Systemd, program, why_not

UNITS = ROOT / "deploy/units"
AGENT, AGGREGATOR, BROKER = "midge-agent.service", "midge-aggregator.service", "midge-broker.service"
MODULES = {AGENT: "edge_agent.main", AGGREGATOR: "aggregator.main"}
PROGRAMS = {
    AGENT: "/opt/midge/current/bin/midge-agent",
    AGGREGATOR: "/opt/midge-aggregator/current/bin/midge-aggregator",
}
EXPORT_S = 120.0
REASON = why_not()

pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(240)]


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    """Not started yet, with the units and what they start."""
    machine = Systemd(tmp_path / "machine")
    for unit in (AGENT, AGGREGATOR, BROKER):
        machine.copy(UNITS / unit, f"/etc/systemd/system/{unit}")
        machine.log_to_file(unit)
    for unit, path in PROGRAMS.items():
        machine.put(path, program(MODULES[unit]), 0o755)
    return machine


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
    inside = account.model_copy(update={"password_file": Path("password")})
    task = UNDER_TEST / "source" / KERAS_TASK.relative_to(ROOT)
    lines = f'folder = "."\nheartbeat_s = 0.5\n[tasks.blobs]\nfile = {json.dumps(str(task))}\n'
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
        assert systemd.until(AGGREGATOR, "StatusText", "waiting") == f"connected; run {run} waiting round 0"
        for unit in (AGENT, AGGREGATOR):
            assert systemd.show(unit, "NRestarts") == "0"
            status = systemd.run("cat", f"/proc/{systemd.show(unit, 'MainPID')}/status").stdout
            assert "Seccomp:\t2" in status
            assert "CapEff:\t0000000000000000" in status
        state = systemd.run("ls", "-ld", "/var/lib/private/midge-agent").stdout
        assert state.startswith("drwx------"), state


def test_a_wrong_setting_is_not_tried_again(systemd: Systemd) -> None:
    systemd.put("/etc/midge/agent.toml", "device = 'pi 1'\n")
    with systemd:
        systemd.systemctl("start", AGENT)
        assert systemd.until(AGENT, "ActiveState", "failed")
        assert (systemd.show(AGENT, "ExecMainStatus"), systemd.show(AGENT, "NRestarts")) == ("78", "0")


def test_a_convolutional_program_trains_where_no_memory_is_both_written_and_run(
    systemd: Systemd, tmp_path: Path
) -> None:
    exported = tmp_path / "exported"
    request = {
        "task": str(ROOT / "tests/arm/mnist_cnn.py"),
        "folder": str(exported),
        "seed": 0,
        "batch_size": 8,
    }
    answer = ask_once(MODULE, {"verb": "export", **request}, EXPORT_S)
    assert answer["event"] == "exported", answer
    x = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40) % 10)
    for file in (*exported.iterdir(), tmp_path / "data.npz"):
        systemd.copy(file, f"/srv/{file.name}")
    files = "/srv/program.json /srv/data.npz --theta /srv/theta.f32"
    systemd.put("/etc/midge/agent.toml", "")
    trial = f"ExecStart=\nExecStart={PROGRAMS[AGENT]} try {files}\n"
    override = f"[Service]\nType=exec\nRestart=no\nWatchdogSec=0\n{trial}"
    systemd.put(f"/etc/systemd/system/{AGENT}.d/try.conf", override)
    with systemd:
        assert systemd.show(AGENT, "MemoryDenyWriteExecute") == "yes"
        systemd.systemctl("start", AGENT)
        systemd.until(AGENT, "SubState", "dead", "failed")
        assert systemd.show(AGENT, "ExecMainStatus") == "0"
        assert "after" in (systemd.out / f"{AGENT}.log").read_text()
