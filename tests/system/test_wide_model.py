"""Ten million parameters (35 MB and more) through a broker that takes packets of 2,000,000 bytes at most."""

import pytest

from tests.system.lab import Lab
from tests.system.proxy import Link
from tests.system.wide_task import __file__ as wide_task

THETA_BYTES = 4 * 10_000_000 * 7 // 8
OVERHEAD = 1.25


@pytest.mark.timeout(300)
def test_a_wide_model_passes_both_ways_and_goes_on_where_a_cut_link_left_it(lab: Lab) -> None:
    lab.start_aggregator(task=wide_task)
    with Link(lab.mosquitto.port) as link:
        link.cut_once("down", THETA_BYTES // 2)
        link.cut_once("up", THETA_BYTES // 2)
        lab.start_agent("pi-1", port=link.port)
        run = lab.start_run(rounds=1, steps=1, federated_evaluation=False, runtime="keras")
        assert lab.until_round(run, 1, "closed")["outcome"] == "completed"
        assert lab.until_ended(run)["state"] == "finished"
        assert link.cuts == 2
        # Starting over after the cut would cost half of it again.
        assert THETA_BYTES <= link.down < OVERHEAD * THETA_BYTES
        assert THETA_BYTES <= link.up < OVERHEAD * THETA_BYTES
    lab.until_cleared("blobs/#")
