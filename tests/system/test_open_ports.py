"""Services speak to the broker and listen to nobody: what the kernel knows of their sockets."""

import os
import re
from pathlib import Path

import pytest

from tests.system.lab import Lab

LISTENING = "0A"
TABLES = ("tcp", "tcp6", "udp", "udp6")


def sockets(process: int) -> set[str]:
    """The inodes of a process' sockets."""
    found = set[str]()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        if named := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
            found.add(named[1])
    return found


def waits_for_strangers(process: int) -> list[str]:
    """Local addresses on which a process listens (TCP), or receives at all (UDP)."""
    own = sockets(process)
    found = []
    for table in TABLES:
        rows = (line.split() for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:])
        mine = (row for row in rows if row[9] in own)
        found += [row[1] for row in mine if table.startswith("udp") or row[3] == LISTENING]
    return found


def family(process: int) -> list[int]:
    """A process and all that came of it: the agent's trainer, the aggregator's worker."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [process, *(one for child in children for one in family(child))]


@pytest.mark.timeout(180)
def test_neither_agent_nor_aggregator_listens(lab: Lab) -> None:
    aggregator, agent = lab.start_aggregator(), lab.start_agent("pi-1")
    run = lab.start_run(rounds=1, min_devices=1)
    assert lab.until_ended(run)["state"] == "finished"
    for service in (aggregator, agent):
        processes = family(service.pid)
        assert len(processes) > 1, "the trainer stays warm, the worker loaded"
        assert any(sockets(process) for process in processes)
        assert [waits_for_strangers(process) for process in processes] == [[]] * len(processes)
    broker = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    mosquitto = [int(child) for task in broker for child in task.read_text().split()]
    assert any(waits_for_strangers(process) for process in mosquitto), "a port that is open is seen"
