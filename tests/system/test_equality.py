"""What the federation computes is what one process computes without MQTT, to the bit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from aggregator.coordinator.cohort import round_seed
from aggregator.strategies.fedavg import FedAvg
from broker.contract import DataContract
from broker.layout import THETA_DTYPE, Theta
from broker.messages import TrainingSettings
from broker.program import Program
from edge_agent.data.settings import NpzSettings
from edge_agent.data.source import load
from edge_agent.data.split import split
from edge_agent.runtimes.registry import create
from edge_agent.seeds import derive_seed
from tests.system.blobs_task import data_contract
from tests.system.lab import DEVICES, KERAS_TASK, Lab

ROUNDS = 3
CONTRACT = DataContract.model_validate(data_contract)
SETTINGS = {"rounds": ROUNDS, "min_devices": 3, "epochs": 2, "batch_size": 16, "seed": 7}


def federated(lab: Lab, order: tuple[str, ...]) -> tuple[Path, str]:
    """Run to the end, agents started in this order; gives the run's folder and the last theta's digest."""
    lab.start_aggregator(KERAS_TASK)
    for device in order:
        lab.start_agent(device)
        lab.until_state(device, "idle")
    run = lab.start_run(**SETTINGS)
    assert lab.until_ended(run)["state"] == "finished"
    folder = lab.run_folder(run)
    return folder, hashlib.sha256((folder / "theta" / f"round-{ROUNDS:04}.f32").read_bytes()).hexdigest()


def alone(lab: Lab, folder: Path) -> Theta:
    """The same federated averaging in this process, from the same seeds."""
    program = Program.from_bytes((folder / "program.json").read_bytes())
    theta = np.fromfile(folder / "theta" / "round-0000.f32", THETA_DTYPE)
    runtime = create(program.runtime)
    runtime.load(program.body.encode(), program.layout)
    for number in range(1, ROUNDS + 1):
        strategy = FedAvg()
        strategy.begin(theta, program.layout)
        for device in DEVICES:
            given = TrainingSettings(
                epochs=2, batch_size=16, seed=derive_seed(round_seed(7, number), number, device)
            )
            source = NpzSettings(kind="npz", path=lab.folder / f"{device}.npz")
            examples = split(load(source, CONTRACT), given.validation_fraction).training
            trained = runtime.train(theta, examples, given, (), lambda _: None)
            strategy.add({"delta": trained.theta - theta}, trained.examples, {})
        theta = strategy.finish()
    return theta


@pytest.mark.timeout(240)
def test_the_fleet_computes_what_one_process_computes_in_whatever_order_devices_come(tmp_path: Path) -> None:
    digests = []
    for number, order in enumerate([DEVICES, DEVICES[::-1]]):
        (tmp_path / str(number)).mkdir()
        with Lab(tmp_path / str(number)) as lab:
            folder, digest = federated(lab, order)
            digests.append(digest)
    assert digests[0] == digests[1]
    expected = alone(lab, folder)
    found = np.fromfile(folder / "theta" / f"round-{ROUNDS:04}.f32", THETA_DTYPE)
    start = np.fromfile(folder / "theta" / "round-0000.f32", THETA_DTYPE)
    assert np.abs(found - start).max() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()))
    assert len(json.loads((folder / "history.json").read_text())) == ROUNDS
