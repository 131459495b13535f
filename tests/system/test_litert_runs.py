"""The same run with LiteRT programs and with Keras: nobody can tell the models apart."""

import json

import numpy as np
import pytest

from broker.layout import THETA_DTYPE
from tests.system.lab import KERAS_TASK, Lab

ROUNDS = 3


@pytest.mark.timeout(240)
def test_a_fleet_on_litert_computes_what_the_fleet_on_keras_does(lab: Lab) -> None:
    lab.start_aggregator(KERAS_TASK)
    lab.start_agents()
    lab.until(lambda seen: seen.get("federation", {}).get("live") == 3)
    thetas, starts = {}, {}
    for runtime in ("litert", "keras"):
        run = lab.start_run(rounds=ROUNDS, min_devices=3, epochs=2, batch_size=16, runtime=runtime)
        assert lab.until_ended(run)["state"] == "finished"
        folder = lab.run_folder(run)
        assert json.loads((folder / "program.json").read_text())["runtime"] == runtime
        starts[runtime] = np.fromfile(folder / "theta" / "round-0000.f32", THETA_DTYPE)
        thetas[runtime] = np.fromfile(folder / "theta" / f"round-{ROUNDS:04}.f32", THETA_DTYPE)
        assert (folder / "model.keras").is_file()
    moved = float(np.abs(thetas["keras"] - starts["keras"]).max())
    assert moved > 0.05
    np.testing.assert_array_equal(starts["litert"], starts["keras"])
    assert float(np.abs(thetas["litert"] - thetas["keras"]).max()) <= 1e-4 * moved


@pytest.mark.timeout(240)
def test_a_batch_size_of_the_run_is_that_of_its_program(lab: Lab) -> None:
    lab.start_aggregator(KERAS_TASK)
    lab.start_agent("pi-1")
    run = lab.start_run(rounds=1, batch_size=7, runtime="litert")
    assert lab.until_round(run, 1, "closed")["participants"]["pi-1"]["status"] == "accepted"
