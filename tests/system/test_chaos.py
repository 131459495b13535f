"""A short storm of `make chaos`, and that it would see what it looks for."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.books import Receipt, rows
from tests.chaos.federation import AGGREGATOR
from tests.chaos.replay import Replayer
from tests.chaos.storm import rage
from tests.system.lab import PLUGINS

KILLS = 5


@pytest.mark.timeout(240)
def test_a_run_in_a_storm_is_what_its_ledger_computes_to_and_forged_books_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    tally = rage(tmp_path, KILLS, 3, lambda _: None)
    assert tally.violations == []
    assert tally.kills.total() == KILLS
    assert tally.updates > tally.rounds > 0

    ledger = tmp_path / AGGREGATOR / "ledger.sqlite"
    run = rows(ledger, "SELECT run FROM runs")[0]["run"]
    replayer = Replayer(tmp_path / AGGREGATOR, lambda device: tmp_path / f"{device}.npz", tmp_path)
    counted = rows(ledger, "SELECT device FROM updates WHERE round = 1 ORDER BY device")[0]["device"]
    told = Receipt(counted, 1, "accepted", "")
    assert replayer.replay(run, [told]).violations == []

    forge(ledger, "UPDATE updates SET digest = ? WHERE round = 1 AND device = ?", "0" * 64, counted)
    assert f"{counted} trains to" in " ".join(replayer.replay(run, [told]).violations)

    forge(ledger, "DELETE FROM updates WHERE round = 1 AND device = ?", counted)
    lost, wrong = replayer.replay(run, [told]).violations
    assert "round 1 ended with theta" in lost
    assert f"{counted} was told that round 1 counts it" in wrong


def forge(ledger: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1
