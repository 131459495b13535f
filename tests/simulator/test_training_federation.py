"""Whole runs of a task without Keras, whose devices take part by a runtime that a user might install."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aggregator.evaluator import MODULE as WORKER
from aggregator.run_settings import RunSettings
from deploy.simulator.training.build import build
from deploy.simulator.training.devices import MODULE as TRAINEE
from deploy.simulator.training.devices import Devices
from deploy.simulator.training.federation import Federation, RunResult
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.pool import Pool
from deploy.simulator.training.shares import Shares, Source
from host.errors import ChildError, ConfigError
from tests.system.lab import PLUGINS, write_examples

TASK = Path(__file__).parents[1] / "system/softmax_task.py"
Run = Callable[..., RunResult]


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[Pool, Pool]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGINS))
        with Pool(WORKER, 1) as worker, Pool(TRAINEE, 2) as trainers:
            yield worker, trainers


@pytest.fixture
def run(pools: tuple[Pool, Pool], tmp_path: Path) -> Run:
    """Six devices with a share of 240 examples."""
    worker, trainers = pools
    write_examples(tmp_path / "blobs.npz", 240, seed=1)

    def finish(
        dropout: float = 0.0, task: Path = TASK, without_data: str | None = None, **given: object
    ) -> RunResult:
        settings = RunSettings.model_validate({"rounds": 3, "batch_size": 16} | given)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        built = build(task, settings, folder / "run", worker)
        source = Source(tmp_path / "blobs.npz")
        shares = Shares(source, Partition.parse("labels:2"), 6, built.contract).write(0, folder / "shares")
        if without_data is not None:
            (folder / "shares" / f"{without_data}.npz").unlink()
        devices = Devices(shares, built, folder, trainers)
        return Federation(built, settings, devices, dropout, worker).run(lambda _: None)

    return finish


def test_a_run_learns_and_measures_each_model_in_both_ways(run: Run) -> None:
    result = run()
    accuracies = [one.decisive["accuracy"] for one in result.rounds]
    assert [one.accepted for one in result.rounds] == [6, 6, 6]
    assert accuracies[0] < accuracies[2] > 0.5
    assert all("accuracy" in one.federated for one in result.rounds)
    assert result.ended == "finished"


def test_one_seed_gives_the_same_again_and_another_one_does_not(run: Run) -> None:
    assert run(0.3, seed=4, fraction=0.7) == run(0.3, seed=4, fraction=0.7)
    assert run(seed=4).theta != run(seed=5).theta


def test_settings_of_a_run_decide_who_takes_part_and_when_it_is_over(run: Run) -> None:
    half = run(fraction=0.5, federated_evaluation=False)
    assert {(one.participants, one.accepted) for one in half.rounds} == {(3, 3)}
    assert half.rounds[0].federated == {}
    over = run(target=2, over_selection=2.0)
    assert {(one.participants, one.accepted) for one in over.rounds} == {(4, 2)}
    reached = run(rounds=50, stop_when="accuracy >= 0.6")
    assert reached.rounds[-1].decisive["accuracy"] >= 0.6 > reached.rounds[-2].decisive["accuracy"]


def test_devices_that_drop_out_give_no_update_and_too_many_abandon_the_round(run: Run) -> None:
    some = run(0.5, rounds=6, quorum=1, abandoned_limit=100)
    assert {one.participants for one in some.rounds} == {6}
    accepted = [one.accepted for one in some.rounds]
    assert min(accepted) < 6
    assert 1 < np.mean(accepted) < 5
    strict = run(0.5, rounds=6, quorum=6)
    assert strict.ended == "paused"
    assert [one.outcome.value for one in strict.rounds[-3:]] == ["abandoned"] * 3
    assert strict.rounds[-1].reason == f"{strict.rounds[-1].accepted} of at least 6 updates"


def test_an_abandoned_round_leaves_the_model_as_it_was(run: Run) -> None:
    start = run(max_norm=1e-9, rounds=1, abandoned_limit=1)
    assert start.rounds[0].reason.endswith("is rejected: norm-too-large")
    assert start.theta == run(max_norm=1e-9, rounds=5, abandoned_limit=4).theta != run(rounds=1).theta


def test_a_device_whose_data_will_not_do_is_replaced_by_a_spare_one_and_not_selected_again(run: Run) -> None:
    result = run(without_data="pi-2", target=5, over_selection=1.2)
    assert [(one.participants, one.accepted) for one in result.rounds] == [(6, 5), (5, 5), (5, 5)]
    alone = run(without_data="pi-2", quorum=6, abandoned_limit=1)
    assert alone.rounds[0].reason.startswith("5 of at least 6 updates; pi-2 declines, data: ")


def test_a_strategy_and_an_initial_model_are_those_of_the_settings(run: Run, tmp_path: Path) -> None:
    assert run(strategy="slow").theta == run().theta
    with pytest.raises(ConfigError, match="no strategy 'median-of-nothing'"):
        run(strategy="median-of-nothing")
    np.savez(tmp_path / "start.npz", np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32))
    begun = run(initial=str(tmp_path / "start.npz"), rounds=1)
    assert begun.rounds[0].decisive["accuracy"] > 0.8


def test_what_is_wrong_with_all_devices_alike_ends_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pi-\d declines, runtime: .* does not know proximal"):
        run(proximal=0.1)
    with pytest.raises(ConfigError, match="7 devices, and only 6 fit"):
        run(min_devices=7)
    broken = tmp_path / "broken.py"
    broken.write_text(TASK.read_text() + "\nno_such_name\n")
    with pytest.raises(ConfigError, match=r"broken.py line .*no_such_name"):
        run(task=broken)


def test_a_process_that_ends_is_an_error_and_not_a_wait() -> None:
    with Pool("this", 1) as pool, pytest.raises(ChildError, match="a process of the simulation ended"):
        pool.ask([{}])


def test_a_pool_answers_in_the_order_of_the_requests(pools: tuple[Pool, Pool]) -> None:
    told: list[None] = []
    answers = pools[1].ask([{"verb": f"nonsense-{number}"} for number in range(9)], lambda: told.append(None))
    assert [answer["detail"] for answer in answers] == [f"no 'nonsense-{n}' is there" for n in range(9)]
    assert len(told) == 9
    assert pools[1].ask([]) == []
