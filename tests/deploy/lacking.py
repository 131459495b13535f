"""A Mosquitto that somebody else configured: some of what midge needs, it lacks."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.mosquitto import Mosquitto, _free_port, find_mosquitto
from broker.topics import Role, Topics

USERS = {
    "aggregator": Role.AGGREGATOR,
    "operator": Role.OPERATOR,
    "monitor": Role.MONITOR,
    "pi-1": Role.DEVICE,
    "pi-2": Role.DEVICE,
}


@contextmanager
def lacking(
    folder: Path,
    topics: Topics,
    *lines: str,
    rights: str | None = None,
    users: Mapping[str, Role] = USERS,
) -> Iterator[Mosquitto]:
    """A broker with these lines in its configuration, and other rights than ours if they are given."""
    accounts = Mosquitto(folder, topics, users, port=_free_port())
    if rights is not None:
        (folder / "acl").write_text(rights)
    config = folder / "lacking.conf"
    config.write_text("\n".join([*_basics(folder, accounts.port), *lines]) + "\n")
    with (
        (folder / "lacking.log").open("wb") as log,
        subprocess.Popen([find_mosquitto(), "-c", config], stderr=log) as process,
    ):
        try:
            _await_running(process, folder / "lacking.log")
            yield accounts
        finally:
            process.terminate()


def _basics(folder: Path, port: int) -> Sequence[str]:
    return (
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {folder / 'accounts'}",
        f"acl_file {folder / 'acl'}",
        "user root",
    )


def _await_running(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while " running" not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
