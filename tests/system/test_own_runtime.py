"""A task without Keras is trained by a runtime that a user installed on the devices."""

import json

import numpy as np
import pytest

from broker.layout import THETA_DTYPE
from tests.system.lab import Lab

ROUNDS = 2


@pytest.mark.timeout(240)
def test_a_task_without_keras_learns_and_another_run_begins_where_it_ended(lab: Lab) -> None:
    lab.start_aggregator()
    lab.start_agents("pi-1", "pi-2")
    run = lab.start_run(rounds=ROUNDS, min_devices=2, batch_size=16)
    assert lab.until_ended(run)["state"] == "finished"

    folder = lab.run_folder(run)
    history = json.loads((folder / "history.json").read_text())
    assert [entry["accepted"] for entry in history] == [2] * ROUNDS
    first, second = (entry["metrics"]["accuracy"] for entry in history)
    assert 0 < first < second
    assert second > 0.5
    assert {tuple(entry["federated"]) for entry in history} == {("accuracy", "loss")}

    theta = np.fromfile(folder / "theta" / "round-0002.f32", THETA_DTYPE)
    with np.load(folder / "model.npz") as model:
        assert np.concatenate([model["arr_0"].ravel(), model["arr_1"]]).tolist() == theta.tolist()
    names = [f"round-000{number}{suffix}" for number in (1, 2) for suffix in (".confusion.json", ".npz")]
    assert sorted(path.name for path in (folder / "models").iterdir()) == names
    confusion = json.loads((folder / "models" / "round-0002.confusion.json").read_text())
    assert confusion["classes"] == ["red", "green", "blue"]
    assert np.trace(confusion["counts"]) / np.sum(confusion["counts"]) == pytest.approx(second)

    # Each fetches theta once more, to evaluate it.
    sizes = [(folder / name).stat().st_size for name in ("program.json", *["theta/round-0001.f32"] * 2)]
    assert [entry["bytes_down"] for entry in history] == [2 * sum(sizes), 2 * sizes[1]]
    courses = lab.courses(run)
    assert sorted(courses) == [(number, name) for number in (1, 2) for name in ("pi-1", "pi-2")]
    for states in courses.values():
        assert states[:4] == ["fetching", "training", "uploading", "reported"]
        assert states[4:6] == ["fetching", "evaluating"]

    later = lab.run_folder(lab.start_run(rounds=1, min_devices=2, initial=run))
    assert (later / "theta" / "round-0000.f32").read_bytes() == theta.tobytes()
