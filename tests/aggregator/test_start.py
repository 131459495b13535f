import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.start import when_there_is_room
from host.errors import StorageError
from host.notify import Notifier

CHILD = """
import logging, resource, sys, threading
from pathlib import Path
from aggregator import start
from aggregator.ledger import Ledger
from host.notify import Notifier

_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))

class Lift(logging.Handler):
    def emit(self, record):
        print(record.getMessage())
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

start.log.addHandler(Lift())
start.RETRY_S = 0.0
path = Path(sys.argv[1])
ledger = start.when_there_is_room(lambda: Ledger(path), threading.Event(), Notifier({}))
print("session", ledger.next_session(7))
"""


def test_a_full_disk_at_the_start_is_waited_out_and_told_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "ledger.sqlite")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert len(told) == 2
    assert told[0].startswith("cannot start: ledger")
    assert told[1] == "session 7"


def test_whoever_waits_may_be_stopped() -> None:
    stopping = threading.Event()

    def attempt() -> Ledger:
        stopping.set()
        raise OSError(28, "No space left on device")

    assert when_there_is_room(attempt, stopping, Notifier({})) is None


def test_a_damaged_ledger_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="backup"):
        when_there_is_room(lambda: Ledger(tmp_path / "ledger"), threading.Event(), Notifier({}))
