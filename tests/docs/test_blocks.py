"""Every code block of the pages is run, or read by what would read it; what is not run says why."""

import configparser
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from aggregator.plain import PlainTask
from aggregator.run_settings import RunSettings
from aggregator.settings import AggregatorSettings, TaskSettings
from aggregator.strategies import registry as strategies
from aggregator.taskfile import names_runtime
from broker.conf import Listener, conf
from broker.names import DeviceId, PublicKey
from deploy.command.app import app
from deploy.command.options import OperatorSettings
from deploy.units.catalogue import SERVICES as SERVICES_INSTALLED
from edge_agent.data.settings import DataSettings
from edge_agent.runtimes import registry as runtimes
from edge_agent.settings import AgentSettings
from host.exits import ExitCode
from host.settings import load_settings
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, blocks, commands, files, named

LANGUAGES = {"python", "toml", "console", "ini", "text", "mermaid"}
# A block that is not run is an exception: another one has to be entered here.
NOT_RUN = {
    "has tests of its own": 6,
    "needs a broker and the files above": 1,
    "needs a device": 4,
    "needs a running federation": 12,
    "needs a trained model": 2,
    "needs somebody else's broker": 1,
    "needs sudo": 3,
    "would install": 1,
    "would run all tests": 1,
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVICES = ("midge-agent", "midge-aggregator")
SYSTEM = ("cp", "sudo", "systemctl", "ls", "mosquitto_sub", "python3", "scp", "ssh")
COMMANDS = sorted({command for block in all_blocks("console") for command, _ in commands(block)})


class OnlyData(BaseModel):
    """An agent's settings, of which the page shows one table."""

    data: DataSettings


class OnlyDeviceKeys(BaseModel):
    """An aggregator's settings, of which the page shows the devices' keys."""

    device_keys: dict[DeviceId, PublicKey]


class OnlyTasks(BaseModel):
    """An aggregator's settings, of which the page shows the tasks."""

    tasks: dict[str, TaskSettings]


def blocks_named(language: str, *, tasks: bool | None = None) -> list[object]:
    found = [b for b in all_blocks(language) if tasks is None or ("data_contract" in b.text) == tasks]
    return [pytest.param(block, id=named(block)) for block in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_found_and_its_language_known(page: Path) -> None:
    found = blocks(page)
    assert len(re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)) == 2 * len(found)
    assert {block.language for block in found} <= LANGUAGES


def test_blocks_that_are_not_run_are_few_and_say_why() -> None:
    assert Counter(block.reason for block in all_blocks(*LANGUAGES) if block.reason) == NOT_RUN


def test_commands_that_are_run_stand_where_the_readmes_federation_runs_them() -> None:
    """By tests/docs/test_readme.py."""
    pages = {block.page.name for block in all_blocks("console") if not block.reason}
    assert pages == {"README.md", "monitor.md"}


@pytest.mark.parametrize("block", blocks_named("toml"))
def test_settings_are_settings(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(block.text)
    keys = tomllib.loads(block.text).keys()
    if "project" in keys:
        groups = tomllib.loads(block.text)["project"]["entry-points"].keys()
        assert groups <= {strategies.GROUP, runtimes.GROUP}
        return
    models: dict[str, type[BaseModel]] = {
        "folder": AggregatorSettings,
        "device": AgentSettings,
        "device_keys": OnlyDeviceKeys,
        "broker": OperatorSettings,
        "tasks": OnlyTasks,
        "rounds": RunSettings,
    }
    model = next((model for key, model in models.items() if key in keys), OnlyData)
    assert load_settings(model, path, {}, {}).model_fields_set == keys


@pytest.fixture
def held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the tasks of the pages read, that is also where we are."""
    from aggregator.keras.determinism import be_deterministic  # noqa: PLC0415  TensorFlow takes seconds
    from tests.docs.workshop import write_held_out  # noqa: PLC0415

    be_deterministic()  # or tests that follow in this process no longer can
    write_held_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def load(block: Block, folder: Path) -> Any:  # noqa: ANN401  Keras ships no types
    """A task, as the aggregator would load it."""
    from aggregator.keras.task import load_task  # noqa: PLC0415  TensorFlow takes seconds

    path = folder / (block.file or "task.py")
    path.write_text(block.text)
    return load_task(path, 0)


@pytest.mark.parametrize("block", blocks_named("python", tasks=True))
def test_tasks_can_be_built_and_travel(block: Block, held_out: Path) -> None:
    path = held_out / (block.file or "task.py")
    path.write_text(block.text)
    if names_runtime(path):
        assert PlainTask(path, 0).export("litert", 32).layout.size > 0
    else:
        assert load(block, held_out).export("litert", 32).layout.size > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("block", blocks_named("python", tasks=False))
def test_other_python_runs(block: Block, held_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "load_model" in block.text:
        model = load(files(block.page)["visitors.py"], held_out).model
        model.save("model.keras")
    path = held_out / "script.py"
    path.write_text(block.text)
    runpy.run_path(str(path))
    printed = capsys.readouterr().out
    if block.file is None:
        assert printed == "(1, 3)\n"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it."""
    return tmp_path_factory.mktemp("nowhere")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str, nowhere: Path) -> None:
    program, *arguments = shlex.split(command)
    program = Path(program).name
    if program == "midge":
        understood_by_midge(arguments)
    elif program in SERVICES:
        understood_by_service(program, arguments, nowhere)
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pip":
        extras = re.findall(r"[\w-]+", arguments[-1].removeprefix("."))
        assert arguments[-1].startswith(".")
        assert set(extras) <= PROJECT["optional-dependencies"].keys()
    else:
        assert program in SYSTEM


def understood_by_midge(arguments: list[str]) -> None:
    """The parser takes the arguments; nothing is called."""
    group: Any = typer.main.get_command(app)
    group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def understood_by_service(program: str, arguments: list[str], folder: Path) -> None:
    """It complains about the settings file, which is not there, and not about the command line."""
    named = (Path(argument).name for argument in arguments)
    status, said = answer_of(program, *named, folder=folder)
    assert status == ExitCode.BAD_CONFIG, said
    assert "cannot be read: No such file" in said


@cache
def answer_of(program: str, *arguments: str, folder: Path) -> tuple[int, str]:
    path = Path(sys.executable).with_name(program)
    done = subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("block", blocks_named("ini"))
def test_an_addition_to_a_unit_names_one_of_ours(block: Block) -> None:
    added = configparser.ConfigParser(strict=False, interpolation=None)
    added.read_string(block.text)
    assert added.sections() == ["Service"]
    path = Path(block.text.splitlines()[0].removeprefix("# "))
    unit, file = path.parent.name, path.name
    assert unit.removesuffix(".d") in {service.unit for service in SERVICES_INSTALLED.values()}
    assert file.endswith(".conf")


@pytest.mark.parametrize("block", blocks_named("mermaid"))
def test_diagrams_keep_to_the_grammar(block: Block) -> None:
    """A semicolon would end a statement; in a state diagram, a colon begins the label."""
    kind, *lines = block.text.splitlines()
    assert kind in {"stateDiagram-v2", "sequenceDiagram"}
    assert ";" not in block.text
    if kind == "stateDiagram-v2":
        assert all(re.fullmatch(r"    (\[\*\]|\w+) --> \w+(: [^:]+)?", line) for line in lines)


def test_the_brokers_limits_are_those_of_our_own_broker(tmp_path: Path) -> None:
    shown = next(block for block in all_blocks("text") if "max_packet_size" in block.text)
    ours = conf(tmp_path, [Listener(1, "acl", "accounts")], state=tmp_path).splitlines()
    assert set(shown.text.splitlines()) <= set(ours)
