import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.control import Reply, RunSummary
from broker.mosquitto import Mosquitto
from deploy.command import remote
from deploy.command.app import PANELS, VERBS, app, run
from deploy.command.options import OperatorSettings
from deploy.command.remote import parse_changes
from host.errors import ConfigError

ROOT = Path(__file__).parents[2]


def midge(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", ["midge", *arguments])
    with pytest.raises(SystemExit) as left:
        run()
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("0.5", 0.5),
        ("true", True),
        ("keep", "keep"),
        ("run-1", "run-1"),
        ('"20"', "20"),
        ("NaN", "NaN"),
        ("[1]", "[1]"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_setting_is_a_number_or_truth_where_it_looks_like_one(text: str, value: object) -> None:
    (found,) = parse_changes([f"name={text}"]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("change", ["rounds", "=3", ""])
def test_a_setting_without_name_or_value_is_refused(change: str) -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_changes([change])


@pytest.mark.parametrize("verb", ["stop", "pause", "resume", "runs"])
def test_without_a_broker_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.delenv("MIDGE_BROKER__URL", raising=False)
    assert midge(monkeypatch, verb) == 78
    assert capsys.readouterr().err.startswith("midge: which broker? give --broker")


def test_in_a_home_nobody_has_to_say_where_the_broker_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator/operator.toml").write_text(
        'timeout_s = 0.2\n[broker]\nurl = "mqtt://127.0.0.1:1"\nusername = "operator"\n'
    )
    monkeypatch.setenv("MIDGE_HOME", str(tmp_path))
    assert midge(monkeypatch, "stop") == 69
    monkeypatch.delenv("MIDGE_HOME")
    monkeypatch.chdir(tmp_path)
    assert midge(monkeypatch, "stop") == 69
    assert capsys.readouterr().err.count("no answer within 0.2 s from mqtt://127.0.0.1:1") == 2


def test_a_bad_option_is_named_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert midge(monkeypatch, "runs", "--broker", "localhost") == 78
    assert capsys.readouterr().err.startswith("midge: --broker: broker url 'localhost' must begin with")


def test_an_unreachable_broker_is_exit_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = ("--broker", "mqtt://127.0.0.1:1", "--username", "operator", "--timeout", "0.3")
    assert midge(monkeypatch, "stop", *connection) == 69
    error = capsys.readouterr().err
    assert "no answer within 0.3 s from mqtt://127.0.0.1:1" in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_used_is_a_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert midge(monkeypatch, "init", str(tmp_path / "file/home"), "--host", "here") == 1
    assert capsys.readouterr().err == f"midge: {tmp_path}/file/home: Not a directory\n"


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["acl", "--federation", "A/B"], 78, "federation"),
        (["acl", "--mosquitto", "--account", "Ann=operator"], 78, "--account: user name 'Ann'"),
        (["acl", "--mosquitto", "--account", "x=enrolment"], 78, "write NAME=ROLE"),
        (["registrar", "--config", "x", "--log-level", "loud"], 2, "loud"),
        (["install", "agent", "--ssh", "ssh 'pi"], 78, "--ssh ssh 'pi"),
        (["install", "agent", "--ssh", ""], 78, "name a command"),
        (["purge", "--monitor", "nobody.toml"], 69, "cannot be reached"),
    ],
    ids=["federation", "account", "enrolment", "level", "quotes", "no-ssh", "unreachable"],
)
def test_what_cannot_be_is_a_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    status: int,
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nobody.toml").write_text('[broker]\nurl = "mqtt://127.0.0.1:1"\n')
    assert midge(monkeypatch, *arguments) == status
    assert why in capsys.readouterr().err


def test_refused_credentials_are_exit_77(
    monkeypatch: pytest.MonkeyPatch, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    url = mosquitto.settings("operator").url
    arguments = ("--broker", url, "--username", "operator", "--password-file", str(tmp_path / "wrong"))
    assert midge(monkeypatch, "stop", *arguments) == 77


def test_settings_come_from_file_environment_and_options_in_this_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "operator.toml"
    file.write_text(
        'timeout_s = 0.2\n[broker]\nurl = "mqtt://127.0.0.1:1"\nusername = "ann"\nfederation = "file"\n'
    )
    seen: list[OperatorSettings] = []

    def note(operator: OperatorSettings, *_: object, **__: object) -> Reply:
        seen.append(operator)
        return Reply(id="0" * 16, ok=True, text="stopped")

    monkeypatch.setattr(remote, "_ask", note)
    monkeypatch.setenv("MIDGE_BROKER__FEDERATION", "environment")
    monkeypatch.setenv("MIDGE_BROKER__USERNAME", "bob")
    assert midge(monkeypatch, "stop", "--config", str(file), "--username", "eve") == 0
    assert capsys.readouterr().out == "stopped\n"
    (operator,) = seen
    assert operator.timeout_s == 0.2
    assert operator.broker.federation == "environment"
    assert operator.broker.username == "eve"


def test_help_shows_every_verb_in_a_panel_of_its_kind() -> None:
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    places = [told.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert [verb for verb in VERBS if f"│ {verb} " not in told] == []
    assert "─ Commands ─" not in told


def test_runs_are_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = RunSummary(
        run="a-name-of-20-letters-1a2b3c4d",
        task="digits",
        state="finished",
        rounds=20,
        rounds_done=20,
        started_unix_s=0,
        metrics={"loss": 0.25},
    )
    reply = Reply(id="0" * 16, ok=True, text="", runs=(summary,))
    monkeypatch.setattr(remote, "_ask", lambda *_, **__: reply)
    monkeypatch.setenv("COLUMNS", "80")
    assert midge(monkeypatch, "runs", "--broker", "mqtt://there") == 0
    shown = capsys.readouterr().out
    assert f"│ {summary.run} │" in shown
    assert "20/20" in shown
    assert "loss 0.25" in shown
    assert midge(monkeypatch, "runs", "--broker", "mqtt://there", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["metrics"] == {"loss": 0.25}


def test_a_folder_with_something_in_it_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("precious")
    assert midge(monkeypatch, "demo", "--keep", str(tmp_path)) == 78
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer', name='typer')")
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.command.entry"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stderr == "midge: the operator's command needs typer: pip install 'midge[operator]'\n"


def test_the_command_itself_loads_nothing_heavy() -> None:
    code = (
        "import sys, deploy.command.app\n"
        "heavy = ['tensorflow', 'keras', 'sklearn', 'matplotlib', 'textual', 'nicegui', 'jinja2']\n"
        "print([m for m in [*heavy, 'deploy.report.making', 'deploy.monitor.app'] if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
