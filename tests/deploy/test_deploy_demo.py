import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MNIST = ROOT.parent / "shared/data/mnist"


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "deploy.command.entry", "demo", *arguments]


def processes_that_name(text: str) -> list[str]:
    """Command lines of living processes with `text` in them."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if text in line]


def outcome(*arguments: str) -> tuple[dict[str, Any], str]:
    """What the demo's last line says, and what it told people."""
    ended = subprocess.run(demo("--json", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


@pytest.mark.timeout(300)
def test_devices_that_lack_digits_learn_them_from_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    found, told = outcome("--keep", str(folder))
    assert found["accuracy"] >= 0.93
    assert min(found["accuracy_missing"].values()) >= 0.90
    assert max(found["accuracy_alone"].values()) < 0.75
    assert found["accuracy_missing_alone"] == {"a": 0.0, "b": 0.0, "c": 0.0}
    run = folder / "aggregator/runs" / found["run"]
    names = ("model.keras", "history.json", "run.toml", "curves.png", "confusion.png", "report.html")
    assert [name for name in names if not (run / name).is_file()] == []
    rounds = [line.split()[1] for line in told.splitlines() if line.startswith("round")]
    assert rounds == [f"{number}/{found['rounds']}" for number in range(1, found["rounds"] + 1)]
    assert str(run / "model.keras") in told
    report = (run / "report.html").read_text()
    # Nothing that a section shows is missing of a run of today's.
    for said in ("How participants spent a round", "held-out examples", 'aria-label="How each participant'):
        assert said in report
    assert report.count('class="empty"') == 3
    for device in "abc":
        assert "aggregator_key" in (folder / f"agent-{device}.toml").read_text()
        assert "no aggregator_key is set" not in (folder / f"logs/device-{device}.log").read_text()
    assert processes_that_name(str(folder)) == []


@pytest.mark.timeout(300)
@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST at {MNIST}")
def test_three_devices_of_mnist_reach_the_anchor_in_three_rounds() -> None:
    found, _ = outcome("--data", str(MNIST))
    assert found["rounds"] == 3
    assert found["accuracy"] >= 0.957
    assert all(0.65 <= accuracy <= 0.70 for accuracy in found["accuracy_alone"].values())


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with subprocess.Popen(
        demo("--keep", str(folder)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("alone, 60 epochs" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing is left running" in rest
    assert "Traceback" not in error
    assert processes_that_name(str(folder)) == []
