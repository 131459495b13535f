"""What a user may get wrong before anything runs: one clear line, and an exit code that tells."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aggregator.ledger import Ledger
from host.exits import ExitCode
from tests.system.lab import PATIENCE_S, Lab, broker_table, write_examples


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(command)
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


@pytest.mark.parametrize("command", ["midge-agent", "midge-aggregator"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device = [", "no valid TOML"),
        ('devize = "pi-1"', "devize: is not a setting"),
        ("", "broker: is missing"),
    ],
    ids=["broken", "unknown", "missing"],
)
def test_a_bad_file_ends_with_78_and_says_what_is_wrong(
    tmp_path: Path, command: str, text: str, said: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    ended = run(command, "run", "--config", str(path))
    assert ended.returncode == ExitCode.BAD_CONFIG
    assert said in ended.stderr
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["absent.npz", "empty.npz"])
def test_an_agent_without_examples_ends_with_78(lab: Lab, name: str) -> None:
    np.savez(lab.folder / "empty.npz", x=np.zeros((0, 4), np.float32), y=np.zeros(0, np.int32))
    path = lab.folder / "agent.toml"
    path.write_text(
        f'device = "pi-1"\nstate_folder = "{lab.folder}/state"\n'
        f'[data]\nkind = "npz"\npath = "{lab.folder / name}"\n' + broker_table(lab.account("pi-1"))
    )
    ended = run("midge-agent", "run", "--config", str(path))
    assert ended.returncode == ExitCode.BAD_CONFIG
    assert str(lab.folder / name) in ended.stderr


def test_data_of_another_shape_is_declined_with_the_reason_and_the_round_goes_on(lab: Lab) -> None:
    lab.start_aggregator()
    np.savez(lab.folder / "pi-2.npz", x=np.zeros((50, 9), np.float32), y=np.zeros(50, np.int32))
    lab.start_agent("pi-1")
    lab.start_agent("pi-2")
    run_id = lab.start_run(rounds=1, min_devices=2)
    closed = lab.until_round(run_id, 1, "closed")
    assert closed["participants"]["pi-1"]["status"] == "accepted"
    told = {"status": "declined", "reason": "contract", "examples": 0, "training": {}, "validation": {}}
    assert told.items() <= closed["participants"]["pi-2"].items()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runtime = 'softmax'\nraise RuntimeError('no data today')", "line 2"),
        (
            "import keras\ndef build_model():\n    return keras.Sequential([keras.Input((4,))])\n",
            "data_contract",
        ),
    ],
    ids=["raises", "incomplete"],
)
def test_a_task_that_fails_is_told_to_who_starts_it(lab: Lab, text: str, said: str) -> None:
    task = lab.folder / "task.py"
    task.write_text(text)
    lab.start_aggregator(task=task)
    with pytest.raises(AssertionError, match=said):
        lab.start_run()


def test_refused_credentials_end_an_agent_with_77_after_some_tries(lab: Lab) -> None:
    wrong = lab.folder / "wrong"
    wrong.write_text("not the password")
    settings = lab.account("pi-1").model_copy(
        update={"password_file": wrong, "refusals_before_exit": 3, "reconnect_max_s": 0.1}
    )
    write_examples(lab.folder / "data.npz", 10, seed=1)
    path = lab.folder / "agent.toml"
    path.write_text(
        f'device = "pi-1"\nstate_folder = "{lab.folder}/state"\n'
        f'[data]\nkind = "npz"\npath = "{lab.folder}/data.npz"\n' + broker_table(settings)
    )
    ended = run("midge-agent", "run", "--config", str(path))
    assert ended.returncode == ExitCode.REFUSED_CREDENTIALS
    assert "3 times in a row" in ended.stderr


def test_services_wait_for_a_broker_that_is_not_there_yet_and_say_so(lab: Lab) -> None:
    lab.mosquitto.stop()
    lab.start_aggregator()
    lab.start_agent("pi-1")
    deadline = time.monotonic() + PATIENCE_S
    while not all("cannot be reached" in lab.log(name) for name in ("aggregator", "pi-1")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    lab.mosquitto.start()
    lab.until_state("pi-1", "idle")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("signing.key", "signing.key cannot be used: it holds no key; restore it from a backup"),
        ("ledger.sqlite", "holds a run that another version of midge saved: install that version"),
    ],
)
def test_an_aggregator_that_cannot_use_what_it_once_wrote_ends_with_78(
    tmp_path: Path, name: str, said: str
) -> None:
    if name == "signing.key":
        (tmp_path / name).write_text("ab" * 31)
    else:
        ledger = Ledger(tmp_path / name)
        ledger.commit((), b'{"run": {"from_the_future": 1}}')
        ledger.close()
    ended = run(
        "midge-aggregator", "run", "--set", f"folder={tmp_path}", "--set", "broker.url=mqtt://127.0.0.1:1"
    )
    assert ended.returncode == ExitCode.BAD_CONFIG
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_signing_key_that_is_no_file_ends_with_78_before_anything_else_is_made(tmp_path: Path) -> None:
    (tmp_path / "signing.key").mkdir()
    ended = run(
        "midge-aggregator", "run", "--set", f"folder={tmp_path}", "--set", "broker.url=mqtt://127.0.0.1:1"
    )
    assert ended.returncode == ExitCode.BAD_CONFIG
    assert "signing.key cannot be used: Is a directory" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["signing.key"]
