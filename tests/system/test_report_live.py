"""A report about a run that goes on, made beside the aggregator that holds its ledger."""

from pathlib import Path

import pytest

from broker.control import Verb
from deploy.report.making import make_report
from tests.deploy.report.test_report_page import check, section
from tests.system.lab import Lab


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.timeout(240)
def test_a_report_is_made_while_the_run_goes_on_and_disturbs_nothing(lab: Lab, tmp_path: Path) -> None:
    aggregator = lab.start_aggregator()
    lab.start_agents("pi-1", "pi-2")
    run = lab.start_run(rounds=1000, min_devices=2)
    lab.until_round(run, 2, "closed")
    assert lab.ask(Verb.PAUSE).ok
    folder, output = lab.folder / "aggregator", tmp_path / "report.html"
    before = files(folder)

    make_report(folder, run, output)
    page = check(output)
    assert "This training goes on" in page.text
    assert "operator: pause" in page.text
    assert "red, green, blue" in section(page, "What was trained")
    assert [one for one in page.labels if "how each participant" in one.lower()]
    assert "held-out examples" in section(page, "What was taken")
    assert files(folder) == before

    assert lab.ask(Verb.RESUME).ok
    lab.until_round(run, 5, "closed")
    assert lab.ask(Verb.STOP).ok
    lab.until_ended(run)
    assert aggregator.stop() == 0
    kept = files(folder)
    make_report(folder, run, output)
    assert "stopped" in check(output).text
    assert files(folder) == kept
    assert "Traceback" not in lab.log("aggregator")
