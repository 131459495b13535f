from contextlib import closing
from pathlib import Path

import pytest

from aggregator.coordinator.phases import Phase
from aggregator.records import Reported, Transition, UpdateAccepted
from deploy.report.facts import DeviceFacts, Facts, Fit
from deploy.report.fairness import evenness, fairness
from deploy.report.gather import MAX_SPREADS, gather, thinned
from deploy.report.measures import best_round, jain, lower_is_better, read_goal, spread
from deploy.report.source import read_ledger
from tests.deploy.report.history import Writer, devices_of, trained


def facts(folder: Path, run: str = "digits-1") -> Facts:
    return read_ledger(folder, lambda connection: gather(connection, run))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Six rounds of twelve devices, of which one was abandoned."""
    folder = tmp_path_factory.mktemp("aggregator")
    trained(folder)
    return facts(folder)


def test_a_run_is_told_with_who_started_it(found: Facts) -> None:
    assert (found.run.user, found.run.state, found.run.parameters) == ("ada", "finished", 10_000)
    assert [one.what for one in found.commands] == ["ada: start"]


def test_rounds_count_who_was_asked_and_who_delivered(found: Facts) -> None:
    assert [one.outcome for one in found.rounds] == ["completed"] * 2 + ["abandoned"] + ["completed"] * 3
    assert found.rounds[2].asked == 12
    assert found.rounds[2].accepted == 0
    assert found.rounds[2].seconds == pytest.approx(20.0)
    first = found.rounds[0]
    assert (first.asked, first.accepted, first.bytes_up) == (12, 9, 9 * 40_100)
    assert first.bytes_down == 12 * 42_000


def test_what_a_device_did_adds_up_to_what_it_was_asked(found: Facts) -> None:
    for one in found.devices:
        assert one.asked == 6
        assert one.accepted + one.declined + one.refused + one.silent == 6


def test_phases_add_up_to_the_time_of_the_run(found: Facts) -> None:
    assert found.phases["training"] == pytest.approx(5 * 8.0 + 20.0)
    assert found.phases["evaluating"] == pytest.approx(5 * 1.0)
    assert sum(found.phases.values()) == pytest.approx(found.seconds)
    assert found.phases_by_round[3] == {"training": pytest.approx(20.0)}


def test_paused_time_is_not_counted_as_training(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with closing(writer.ledger):
        writer.begin()
        writer.open(1, ["pi-001"])
        writer.now += 3.0
        writer.write(Transition("digits-1", 1, Phase.TRAINING, "paused", "by ada"))
        writer.now += 50.0
        writer.write(Transition("digits-1", 1, "paused", Phase.TRAINING, "resumed"))
        writer.now += 2.0
        writer.close(1, None, None)
    assert facts(tmp_path).phases_by_round[1] == {
        "training": pytest.approx(5.0),
        "paused": pytest.approx(50.0),
        "aggregating": pytest.approx(0.5),
        "evaluating": pytest.approx(1.0),
    }


def test_a_device_is_compared_with_itself_in_its_newest_round_with_both_models(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    own = {"accuracy": (8.0, 10.0)}

    def accepted(number: int) -> UpdateAccepted:
        return UpdateAccepted("digits-1", number, "pi-001", "c" * 64, 10, 60, {}, own, 2.5)

    with closing(writer.ledger):
        writer.begin()
        for number, reported in ((1, 5.0), (2, 9.0)):
            writer.open(number, ["pi-001"])
            report = Reported("digits-1", number, "pi-001", {"accuracy": (reported, 10.0)})
            writer.write(accepted(number), report)
            writer.close(number, {"accuracy": (1.0, 2.0)}, None)
        # In the newest round it was not heard again.
        writer.open(3, ["pi-001"])
        writer.write(accepted(3))
        writer.close(3, {"accuracy": (1.0, 2.0)}, None)
    assert facts(tmp_path).fits == [Fit("pi-001", 2, {"accuracy": 0.8}, {"accuracy": 0.9})]


def test_spreads_are_the_devices_quartiles(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with closing(writer.ledger):
        writer.begin()
        writer.open(1, devices_of(5))
        for place, device in enumerate(devices_of(5)):
            validation = {"accuracy": (float(place), 4.0)}
            writer.write(
                UpdateAccepted("digits-1", 1, device, f"{place:064x}", 10, 60, {}, validation, 1.0),
                Reported("digits-1", 1, device, {"accuracy": (float(place), 8.0)}),
            )
        writer.close(1, {"accuracy": (1.0, 2.0)}, None)
    only = facts(tmp_path).spreads[0]
    assert (only.own["accuracy"].lower, only.own["accuracy"].median, only.own["accuracy"].upper) == (
        0.25,
        0.5,
        0.75,
    )
    assert (only.federated["accuracy"].least, only.federated["accuracy"].most) == (0.0, 0.5)


def test_timelines_are_of_the_newest_and_the_slowest_round_of_which_steps_are_known(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with closing(writer.ledger):
        writer.begin()
        writer.train(1, devices_of(4))
        writer.open(2, devices_of(4))
        writer.now += 30.0
        writer.write(*writer._part(2, 0, "pi-001", 0.5, validated=True))
        writer.close(2, None, None)
        writer.train(3, devices_of(40))
    newest, slowest = facts(tmp_path).timelines
    assert (newest.round, newest.why, len(newest.courses), newest.left_out) == (3, "the newest", 30, 10)
    assert (slowest.round, slowest.why, len(slowest.courses), slowest.left_out) == (2, "the slowest", 1, 0)


def test_spreads_of_long_runs_are_of_evenly_chosen_rounds() -> None:
    assert thinned(range(1, 1001), MAX_SPREADS)[0] == 1
    assert thinned(range(1, 1001), MAX_SPREADS)[-1] == 1000
    assert len(set(thinned(range(1, 1001), MAX_SPREADS))) == MAX_SPREADS
    assert thinned([4, 7], MAX_SPREADS) == [4, 7]


@pytest.mark.parametrize(
    ("values", "index"), [([0.5, 0.5, 0.5], 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([0.0, 0.0], None)]
)
def test_jain_is_one_where_all_are_alike_and_a_share_where_one_has_it_all(
    values: list[float], index: float | None
) -> None:
    assert jain(values) == (None if index is None else pytest.approx(index))


def test_one_value_is_its_own_quartiles() -> None:
    only = spread([0.4])
    assert (only.count, only.least, only.median, only.most) == (1, 0.4, 0.4, 0.4)


@pytest.mark.parametrize(
    ("name", "lower"),
    [("loss", True), ("mean_absolute_error", True), ("mse", True), ("accuracy", False), ("auc", False)],
)
def test_names_of_metrics_tell_which_way_is_better(name: str, lower: bool) -> None:  # noqa: FBT001  a parameter
    assert lower_is_better(name) is lower


def test_the_best_round_of_a_loss_is_the_lowest_and_of_equals_the_first(found: Facts) -> None:
    best = best_round(found.rounds, "loss")
    assert best is not None
    assert best.decisive["loss"] == min(one.decisive["loss"] for one in found.rounds if one.decisive)


def test_the_worst_device_is_the_one_with_the_highest_loss() -> None:
    fits = [Fit(f"pi-{place}", 1, {}, {"loss": float(place)}) for place in range(1, 21)]
    judged = fairness(fits, "loss")
    assert judged is not None
    assert (judged.worst, judged.best) == ("pi-20", "pi-1")
    assert judged.worst_tenth == pytest.approx(19.5)
    assert fairness(fits, "accuracy") is None


def test_contributions_are_even_when_all_give_the_same() -> None:
    one = DeviceFacts("pi-1", 4, 4, 0, 0, 0, 100, 0, 0, 0.0)
    other = DeviceFacts("pi-2", 4, 0, 0, 0, 4, 0, 0, 0, 0.0)
    assert evenness([one, one]) == (1.0, 1.0)
    assert evenness([one, other]) == (0.5, 0.5)
    assert evenness([]) == (None, None)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("accuracy=0.9", "accuracy >= 0.9"),
        ("loss = 0.2", "loss <= 0.2"),
        ("loss >= 3", "loss >= 3"),
        ("f1<=1", "f1 <= 1"),
    ],
)
def test_a_goal_is_reached_from_the_side_from_which_its_metric_gets_better(text: str, rule: str) -> None:
    assert str(read_goal(text)) == rule
