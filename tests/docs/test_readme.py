"""The commands of the README and of watching, run as they stand there, with its files, on a real broker."""

import doctest
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.mosquitto import Mosquitto
from broker.topics import Topics
from tests.docs.pages import ROOT, Block, blocks, commands, files
from tests.docs.workshop import USERS, write_held_out, write_machines, write_passwords

README = ROOT / "README.md"
MONITOR = ROOT / "docs/monitor.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PATIENCE_S = 90


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", Topics("workshop"), USERS) as started:
        yield started


@pytest.fixture
def workshop(tmp_path: Path, broker: Mosquitto) -> Path:
    """A folder with the README's files, and what they refer to."""
    folder = tmp_path / "workshop"
    folder.mkdir()
    for name, block in files(README).items():
        (folder / name).write_text(block.text)
    write_held_out(folder)
    write_machines(folder)
    write_passwords(folder, broker)
    return folder


def reach(broker: Mosquitto) -> dict[str, str]:
    """Our commands first in the path; the environment has the last word on which broker it is."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "MIDGE_BROKER__URL": f"mqtt://127.0.0.1:{broker.port}",
        "COLUMNS": "120",
    }


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed")
def test_the_commands_of_the_readme_and_of_watching_print_what_they_say(
    workshop: Path, broker: Mosquitto
) -> None:
    environment = reach(broker)
    with ExitStack() as running:
        # The page about watching looks at the README's federation.
        for block in blocks(README) + blocks(MONITOR):
            if block.language == "console" and block.service:
                start(block, workshop, environment, running)
            elif block.language == "console" and block.reason is None:
                follow(block, workshop, environment, broker.port)


def start(block: Block, folder: Path, environment: dict[str, str], running: ExitStack) -> None:
    for command, _ in commands(block):
        log = running.enter_context((folder / "services.log").open("ab"))
        process = subprocess.Popen(shlex.split(command), cwd=folder, env=environment, stdout=log, stderr=log)
        running.callback(process.wait, PATIENCE_S)
        running.callback(process.terminate)


def follow(block: Block, folder: Path, environment: dict[str, str], port: int) -> None:
    for command, expected in commands(block):
        # mosquitto_sub takes no address from the environment.
        here = command.replace("-h broker.local", f"-h 127.0.0.1 -p {port} -W {PATIENCE_S}")
        done = subprocess.run(
            ["/bin/sh", "-c", here],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (
            f"{command}\n{done.stderr}\n{(folder / 'services.log').read_text()[-3000:]}"
        )
        assert doctest.OutputChecker().check_output(expected, done.stdout, FLAGS), f"{command}\n{done.stdout}"
