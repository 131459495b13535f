"""What `midge simulate --task` computes is what a fleet computes over MQTT, to the bit."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.contract import DataContract
from deploy.command.app import app
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.shares import Shares, Source
from host.files import file_digest
from tests.system.blobs_task import data_contract
from tests.system.lab import KERAS_TASK, Lab, write_examples

SETTINGS = {"rounds": 3, "epochs": 2, "batch_size": 16, "seed": 7, "proximal": 0.05, "fraction": 0.67}


def simulated(folder: Path) -> str:
    changes = [argument for name, value in SETTINGS.items() for argument in ("--set", f"{name}={value}")]
    where = ["--data", str(folder / "blobs.npz"), "--devices", "3", "--partition", "dirichlet:1"]
    command = ["simulate", "--task", str(KERAS_TASK), *where, *changes, "--processes", "1", "--json"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    return str(json.loads(done.stdout)["runs"][0]["theta"])


@pytest.mark.timeout(240)
def test_a_simulated_run_gives_the_model_of_a_real_one(tmp_path: Path, lab: Lab) -> None:
    write_examples(tmp_path / "blobs.npz", 240, seed=1)
    source = Source(tmp_path / "blobs.npz")
    contract = DataContract.model_validate(data_contract)
    shares = Shares(source, Partition.parse("dirichlet:1"), 3, contract).write(7, tmp_path / "shares")
    lab.start_aggregator(KERAS_TASK)
    for share in shares:
        shutil.copyfile(share.data.path, lab.folder / f"{share.device}.npz")
        lab.start_agent(share.device)
        lab.until_state(share.device, "idle")
    run = lab.start_run(**SETTINGS, min_devices=2)
    assert lab.until_ended(run)["state"] == "finished"
    assert file_digest(lab.run_folder(run) / "theta" / "round-0003.f32") == simulated(tmp_path)
