import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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


@pytest.mark.timeout(240)
def test_devices_that_lack_digits_learn_them_from_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    ended = subprocess.run(
        demo("--json", "--rounds", "6", "--seed", "1", "--keep", str(folder)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert (found["rounds"], found["devices"]) == (6, 3)
    assert found["accuracy"] >= 0.88
    assert set(found["accuracy_alone"]) == set(found["accuracy_missing"]) == {"a", "b", "c"}
    assert max(found["accuracy_alone"].values()) < 0.75
    assert max(found["accuracy_missing_alone"].values()) == 0
    assert min(found["accuracy_missing"].values()) >= 0.75
    run = folder / "aggregator/runs" / found["run"]
    names = ("model.keras", "history.json", "run.toml", "curves.png", "confusion.png")
    assert [name for name in names if not (run / name).is_file()] == []
    assert [line.split()[1] for line in ended.stderr.splitlines() if line.startswith("round")] == [
        f"{n}/6" for n in range(1, 7)
    ]
    assert str(run / "model.keras") in ended.stderr
    assert processes_that_name(str(folder)) == []


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
