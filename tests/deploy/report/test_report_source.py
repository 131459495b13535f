import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.ledger_schema import MIGRATIONS, VERSION
from aggregator.records import RunStarted
from deploy.report.gather import gather
from deploy.report.source import read_ledger
from host.errors import ConfigError, StorageError
from tests.deploy.report.history import Writer, devices_of, trained

ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from pathlib import Path
from tests.deploy.report.history import Writer, devices_of
writer = Writer(Path(sys.argv[1]))
writer.begin()
print("begun", flush=True)
number = 0
while sys.stdin.readline():
    number += 1
    writer.train(number, devices_of(5))
    print(number, flush=True)
"""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def runs(connection: sqlite3.Connection) -> list[str]:
    return [row["run"] for row in connection.execute("SELECT run FROM runs ORDER BY run")]


def accepted(folder: Path) -> list[int]:
    found = read_ledger(folder, lambda connection: gather(connection, "digits-1"))
    return [one.accepted for one in found.rounds]


def test_a_ledger_that_nobody_uses_is_left_as_it_was(tmp_path: Path) -> None:
    trained(tmp_path)
    before = content(tmp_path)
    assert read_ledger(tmp_path, runs) == ["digits-1"]
    assert content(tmp_path) == before


def test_nothing_can_be_written_through_it(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(StorageError, match="readonly"):
        read_ledger(tmp_path, lambda connection: connection.execute("DELETE FROM transitions"))


def test_a_ledger_that_a_living_aggregator_holds_is_read_as_of_its_last_commit(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        for number in range(1, 4):
            writer.stdin.write(b"go on\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == f"{number}\n".encode()
            names = sorted(path.name for path in tmp_path.iterdir())
            assert len(accepted(tmp_path)) == number
            assert sorted(path.name for path in tmp_path.iterdir()) == names
        writer.stdin.close()
    assert writer.returncode == 0
    assert len(accepted(tmp_path)) == 3


@pytest.mark.parametrize("index", [True, False], ids=["with its index", "without its index"])
def test_what_a_crashed_aggregator_left_is_read_and_left_as_it_was(tmp_path: Path, index: bool) -> None:  # noqa: FBT001  a parameter
    living, crashed = tmp_path / "living", tmp_path / "crashed"
    writer = Writer(living)
    with closing(writer.ledger):
        writer.begin()
        writer.train(1, devices_of(5))
        shutil.copytree(living, crashed)
    if not index:
        (crashed / "ledger.sqlite-shm").unlink()
    before = content(crashed)
    assert "ledger.sqlite-wal" in before
    assert accepted(crashed) == [5]
    assert content(crashed) == before


def test_an_aggregator_that_works_meanwhile_has_it_read_again(tmp_path: Path) -> None:
    trained(tmp_path)
    readings = []

    def read(connection: sqlite3.Connection) -> list[str]:
        readings.append(runs(connection))
        if len(readings) == 1:
            with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
                ledger.commit([RunStarted("digits-2", "digits", {}, seed=0)], None)
        return readings[-1]

    assert read_ledger(tmp_path, read) == ["digits-1", "digits-2"]
    assert len(readings) == 2


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_ledger_of_an_older_midge_is_read_without_changing_it(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(MIGRATIONS[:version]) + f"PRAGMA user_version = {version};")
        connection.execute(
            "INSERT INTO runs (run, task, settings, seed, started_unix_s) "
            "VALUES ('old', 'digits', '{}', 0, 1.0)"
        )
        connection.execute(
            "INSERT INTO rounds (run, round, target, quorum, opened_unix_s, outcome, closed_unix_s) "
            "VALUES ('old', 1, 1, 1, 2.0, 'completed', 3.0)"
        )
        connection.commit()
    before = content(tmp_path)
    found = read_ledger(tmp_path, lambda connection: gather(connection, "old"))
    assert [one.round for one in found.rounds] == [1]
    assert found.timelines == []
    assert content(tmp_path) == before


def test_a_ledger_of_a_newer_midge_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ConfigError, match="written by a newer midge"):
        read_ledger(tmp_path, runs)


def test_a_folder_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; name the aggregator's folder with --folder"):
        read_ledger(tmp_path, runs)


def test_a_file_that_is_no_ledger_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.report.source.PAUSE_S", 0.0)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        read_ledger(tmp_path, runs)


def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(ConfigError, match="knows no run 'digits-9'; its newest runs: digits-1"):
        read_ledger(tmp_path, lambda connection: gather(connection, "digits-9"))
