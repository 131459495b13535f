import argparse
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from host.command_line import read_settings, run_command
from host.errors import ChildError, ConfigError, DataError, MidgeError, StorageError
from host.exits import ExitCode


class Broker(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    port: int = 1883


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: Broker
    name: str = "pi"
    log_format: str = "text"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, hooks = (list(root.handlers), root.level), (sys.excepthook, threading.excepthook)
    yield
    root.handlers[:], root.level = before
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)


def run(verb: object, *arguments: str) -> int:
    assert callable(verb)
    return run_command("tool", "Does things.", {"run": (verb, "do it")}, ["run", *arguments])


def raising(error: BaseException) -> object:
    def verb(_given: argparse.Namespace) -> ExitCode:
        raise error

    return verb


def test_the_exit_status_is_what_the_verb_returns() -> None:
    assert run(lambda _given: ExitCode.REFUSED_CREDENTIALS) == 77


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("mend it"), 78),
        (DataError("no examples"), 78),
        (StorageError("disk full"), 1),
        (ChildError("it died"), 1),
        (MidgeError("whatever"), 1),
        (PermissionError(13, "Permission denied", "/var/lib/midge"), 1),
    ],
)
def test_an_error_ends_as_one_line_and_an_exit_code(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == status
    assert capsys.readouterr().err == f"tool: {error}\n"


@pytest.mark.parametrize("by", ["line", "environment"])
def test_an_error_is_a_line_of_fields_where_those_are_asked_for(
    by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if by == "environment":
        monkeypatch.setenv("MIDGE_LOG_FORMAT", "json")
    given = ["--log-format", "json"] if by == "line" else []
    assert run(raising(ConfigError("first\nsecond")), *given) == 78
    said = json.loads(capsys.readouterr().err)
    assert (said["service"], said["level"]) == ("tool", "error")
    assert said["message"] == "tool: first\nsecond"


def test_an_error_of_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_an_interrupt_is_no_error() -> None:
    assert run(raising(KeyboardInterrupt())) == 0


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run", "--unknown"]])
def test_a_line_that_is_not_understood_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command("tool", "Does things.", {"run": (lambda _: ExitCode.OK, "do it")}, arguments)
    assert caught.value.code == ExitCode.USAGE
    assert "usage: tool" in capsys.readouterr().err


def test_the_version_and_every_exit_code_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as caught:
            run_command("tool", "Does things.", {"run": (lambda _: ExitCode.OK, "do it")}, [option])
        assert caught.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("midge ")
    assert all(f"{code:d} {code.help}" in told for code in ExitCode)


def read(*arguments: str) -> Settings:
    found: list[Settings] = []

    def verb(given: argparse.Namespace) -> ExitCode:
        found.append(read_settings(Settings, given))
        return ExitCode.OK

    status = run(verb, *arguments)
    if status != ExitCode.OK:
        raise ConfigError(f"status {status}")
    return found[0]


def test_settings_come_from_the_line_above_the_environment_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tool.toml"
    path.write_text('name = "file"\n[broker]\nurl = "mqtt://file"\nport = 1\n')
    monkeypatch.setenv("MIDGE_BROKER__PORT", "2")
    monkeypatch.setenv("MIDGE_NAME", "environment")
    settings = read("--config", str(path), "--set", "name=line", "--set", "broker.url=mqtt://a=b")
    assert settings == Settings(broker=Broker(url="mqtt://a=b", port=2), name="line")


def test_the_option_has_the_last_word_on_how_log_lines_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_LOG_FORMAT", "text")
    given = ["--set", "broker.url=x", "--set", "log_format=text"]
    assert read(*given, "--log-format", "json").log_format == "json"
    assert read(*given).log_format == "text"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "name"], "--set name: write it as KEY=VALUE"),
        (["--set", "broker.url=x", "--set", "nam=x"], "--set: nam: is not a setting; did you mean name?"),
        (["--set", "broker.url=x", "--set", "broker.port=x"], "--set: broker.port: "),
        ([], "without --config: broker: is missing"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: cannot be read: No such file or directory"),
    ],
)
def test_bad_settings_are_a_configuration_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="status 78"):
        read(*arguments)
    assert message in capsys.readouterr().err


def test_the_log_goes_to_stderr_from_its_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(_given: argparse.Namespace) -> ExitCode:
        logging.getLogger("host").info("an info")
        logging.getLogger("host").warning("a warning")
        return ExitCode.OK

    run(verb, "--log-level", "warning")
    captured = capsys.readouterr()
    assert "a warning" in captured.err
    assert "an info" not in captured.err
    assert captured.out == ""


def test_help_needs_neither_pydantic_nor_numpy() -> None:
    script = (
        "import sys\n"
        "from host.command_line import run_command\n"
        "try:\n"
        "    run_command('tool', '', {}, ['--help'])\n"
        "except SystemExit:\n"
        "    print(sorted({'pydantic', 'numpy'} & sys.modules.keys()))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.endswith("[]\n")
