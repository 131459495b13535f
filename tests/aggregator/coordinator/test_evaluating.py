import json

import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.evaluating import sum_metrics
from aggregator.coordinator.phases import Phase
from aggregator.records import Declined, Reported, RoundClosed, RunEnded
from broker.messages import DeclineReason, Report
from tests.aggregator.coordinator.world import LOST_AFTER_S, PROGRAM, RUN, TASK, World, theta


def closed(world: World) -> RoundClosed:
    (record,) = world.noted(RoundClosed)
    return record


def test_a_new_theta_is_published_and_evaluated() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    effects = world.aggregated()
    assert effects[1:] == [do.PublishBlobs(RUN, (PROGRAM, theta(1))), do.Evaluate(RUN, 1, TASK, theta(1))]
    assert world.core.next_deadline() is not None


def test_every_device_is_asked_to_evaluate_for_as_long_as_is_left() -> None:
    world = World(target=1, over_selection=2)
    world.begin_training("a", "b")
    world.upload("a")
    world.aggregated()
    world.now += 5.0
    world.published()
    (announce,) = world.all(do.Announce)
    assert announce.expiry_s == 55.0
    assert announce.assignment is not None
    assert (announce.assignment.phase, announce.assignment.cohort) == ("evaluating", None)
    assert (announce.assignment.round, announce.assignment.theta) == (1, theta(1))


def test_it_ends_when_the_evaluator_and_all_who_live_have_reported() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.evaluated({"loss": (1.0, 4.0)})
    world.report("a", {"loss": (2.0, 4.0)})
    assert world.noted(Reported) == [Reported(RUN, 1, "a", {"loss": (2.0, 4.0)})]
    assert world.phase() is Phase.EVALUATING
    world.report("b", {"loss": (3.0, 1.0)})
    record = RoundClosed(RUN, 1, "completed", "", theta(1), {"loss": (1.0, 4.0)}, {"loss": (5.0, 5.0)})
    assert closed(world) == record
    assert do.WriteHistory(RUN) in world.effects
    assert (world.phase(), world.number) == (Phase.TRAINING, 2)


def test_it_waits_for_the_evaluator_when_all_devices_have_reported() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    assert world.phase() is Phase.EVALUATING
    world.evaluated()
    assert closed(world).outcome == "completed"


def test_it_does_not_wait_for_who_is_lost() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.evaluated()
    world.report("a")
    world.died("b")
    assert closed(world).outcome == "completed"


def test_it_does_not_wait_for_who_falls_silent() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.evaluated()
    world.report("a")
    world.live(LOST_AFTER_S, "a")
    assert (world.number, world.cohort) == (2, ["a"])


def test_it_does_not_wait_for_who_declines() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.evaluated()
    world.report("a")
    declined = on.DeviceReport("b", Report(run=RUN, round=1, declined=DeclineReason.DATA))
    world.tell(declined)
    assert world.noted(Declined) == [Declined(RUN, 1, "b", DeclineReason.DATA, "")]
    assert closed(world).federated == {"accuracy": (3.0, 4.0)}


def test_it_accepts_zero_reports_at_its_deadline() -> None:
    world = World()
    world.begin_evaluating("a")
    world.evaluated()
    world.live(59.0, "a")
    assert world.phase() is Phase.EVALUATING
    world.wait(1.0)
    assert (closed(world).outcome, closed(world).federated) == ("completed", None)


def test_the_round_is_unevaluated_when_the_evaluator_fails() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    world.tell(on.EvaluationFailed(RUN, 1, "out of memory"))
    assert (closed(world).outcome, closed(world).reason) == ("unevaluated", "out of memory")
    assert closed(world).theta == theta(1), "the model stays"
    assert world.run.completed == 1


def test_the_round_is_unevaluated_when_the_evaluator_is_late() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    world.live(59.0, "a")
    world.wait(1.0)
    assert closed(world).outcome == "unevaluated"
    assert closed(world).reason == "the evaluator did not finish in time"
    for late in (on.Evaluated(RUN, 1, None), on.EvaluationFailed(RUN, 1, "")):
        world.tell(late)
        assert world.rejected() == f"run {RUN} is not evaluating"


def test_a_task_without_held_out_data_is_evaluated_all_the_same() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    world.tell(on.Evaluated(RUN, 1, None))
    assert (closed(world).outcome, closed(world).metrics) == ("completed", None)


def test_it_does_not_end_before_the_devices_could_be_asked() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    world.aggregated()
    world.evaluated()
    assert world.phase() is Phase.EVALUATING
    world.published()
    world.report("a")
    assert world.number == 2


def test_without_federated_evaluation_only_the_evaluator_counts() -> None:
    world = World(federated_evaluation=False)
    world.begin_training("a")
    world.upload("a")
    world.aggregated()
    world.published()
    assert world.announced is None
    world.evaluated()
    assert closed(world).outcome == "completed"
    assert world.number == 2


def test_without_federated_evaluation_nobody_is_sent_to_blobs_that_are_gone() -> None:
    world = World(federated_evaluation=False)
    world.begin_training("a", "b")
    world.upload("a")
    world.died("b")
    world.aggregated()
    world.published()
    assert world.all(do.RetractBlobs) == [do.RetractBlobs((PROGRAM, theta(1)))]
    assert world.announced is None


def test_what_was_announced_ends_when_no_next_round_can_open() -> None:
    world = World(min_devices=2)
    world.begin_evaluating("a", "b")
    world.report("a")
    world.report("b")
    world.died("b")
    world.evaluated()
    assert world.phase() is Phase.WAITING
    assert world.announced is None


def test_reports_count_once() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    world.report("a")
    assert world.rejected() == "this device reported before"
    world.tell(on.DeviceReport("a", Report(run=RUN, round=1, declined=DeclineReason.DATA)))
    assert world.rejected() == "this device reported before"


@pytest.mark.parametrize(
    ("run", "number", "reason"),
    [("run-b", 1, "round 1 of run-b is not open"), (RUN, 2, f"round 2 of {RUN} is not open")],
)
def test_reports_of_another_run_or_round_are_not_taken(run: str, number: int, reason: str) -> None:
    world = World()
    world.begin_evaluating("a")
    world.tell(on.DeviceReport("a", Report(run=run, round=number, metrics={"loss": (1.0, 1.0)})))
    assert world.rejected() == reason


def test_metrics_are_not_taken_before_there_is_a_new_model() -> None:
    world = World()
    world.begin_training("a")
    world.report("a")
    assert world.rejected() == "the round's new model is not there yet"


def test_metrics_of_another_round_are_not_taken() -> None:
    world = World()
    world.begin_evaluating("a")
    for event in (on.Evaluated(RUN, 2, None), on.EvaluationFailed(RUN, 2, "")):
        world.tell(event)
        assert world.rejected() == "round 2 is not the open one"


def test_the_last_round_ends_the_run_with_nothing_left_on_the_broker() -> None:
    world = World(rounds=1)
    world.begin_evaluating("a")
    world.report("a")
    effects = world.evaluated()
    assert effects[1:] == [do.Announce(None), do.RetractBlobs(()), do.WriteHistory(RUN)]
    assert world.noted(RunEnded) == [RunEnded(RUN, "finished", "1 round")]
    assert world.core.run is None
    assert world.ledger.runs()[0].state == "finished"


def test_a_run_ends_with_the_round_that_reaches_its_rule() -> None:
    world = World(rounds=9, stop_when="accuracy >= 0.9")
    world.begin_evaluating("a")
    world.report("a")
    world.evaluated({"accuracy": (8.9, 10.0)})
    assert (closed(world).reason, world.number) == ("", 2)
    world.upload("a")
    world.aggregated()
    world.published()
    world.report("a")
    world.evaluated({"accuracy": (9.0, 10.0)})
    assert (closed(world).outcome, closed(world).reason) == ("completed", "reached accuracy >= 0.9")
    assert world.noted(RunEnded) == [RunEnded(RUN, "finished", "accuracy >= 0.9 after 2 rounds")]
    assert (world.core.run, world.ledger.runs()[0].state) == (None, "finished")


def test_a_rule_that_no_round_reaches_leaves_the_run_its_rounds_and_is_told() -> None:
    world = World(rounds=1, stop_when="accuracy >= 0.9")
    world.begin_evaluating("a")
    world.report("a")
    world.evaluated({"accuracy": (8.0, 10.0)})
    assert closed(world).reason == ""
    assert world.noted(RunEnded) == [RunEnded(RUN, "finished", "1 round, none reached accuracy >= 0.9")]


def test_a_rule_about_a_metric_that_there_is_not_is_told_after_the_first_round() -> None:
    complaint = "stop_when: the evaluation has no 'acuracy', only 'accuracy'"
    world = World(rounds=2, stop_when="acuracy >= 0.1")
    world.begin_evaluating("a")
    world.report("a")
    world.evaluated({"accuracy": (10.0, 10.0)})
    assert closed(world).reason == complaint
    assert world.core.run is not None
    assert world.core.run.complaint == complaint
    world.upload("a")
    world.aggregated()
    world.published()
    world.report("a")
    world.evaluated({"accuracy": (10.0, 10.0)})
    assert world.noted(RunEnded) == [RunEnded(RUN, "finished", f"2 rounds; {complaint}")]


def test_the_devices_own_metrics_decide_only_where_there_is_no_held_out_data() -> None:
    def after(event: on.Event) -> World:
        world = World(stop_when="accuracy >= 0.7")
        world.begin_evaluating("a")
        world.report("a", {"accuracy": (3.0, 4.0)})
        world.tell(event)
        return world

    held_out = after(on.Evaluated(RUN, 1, {"accuracy": (1.0, 4.0)}))
    failed = after(on.EvaluationFailed(RUN, 1, "out of memory"))
    without = after(on.Evaluated(RUN, 1, None))
    assert [world.core.run is None for world in (held_out, failed, without)] == [False, False, True]


def test_a_restarted_aggregator_keeps_to_the_rule() -> None:
    world = World(rounds=9, stop_when="accuracy >= 0.9")
    world.begin_evaluating("a")
    world.restart()
    world.tell(on.Connected())
    world.born("a")
    world.published()
    world.report("a")
    world.evaluated({"accuracy": (9.5, 10.0)})
    assert world.noted(RunEnded) == [RunEnded(RUN, "finished", "accuracy >= 0.9 after 1 round")]


def test_metrics_add_up_by_name() -> None:
    assert sum_metrics([]) is None
    assert sum_metrics([{}]) == {}
    one, other = {"loss": (1.0, 2.0), "auc": (0.5, 1.0)}, {"loss": (3.0, 4.0)}
    assert sum_metrics([one, other]) == {"auc": (0.5, 1.0), "loss": (4.0, 6.0)}


def test_no_report_can_make_the_sum_unusable() -> None:
    huge = {"loss": (1.7e308, 1.0), "accuracy": (1.0, 2.0)}
    total = sum_metrics([huge, huge])
    assert total == {"accuracy": (2.0, 4.0)}
    json.dumps(total, allow_nan=False)
    names = [{f"{device}-{number:02}": (1.0, 1.0) for number in range(64)} for device in "ab"]
    added = sum_metrics(names)
    assert added is not None
    assert len(added) == 64


def test_a_round_with_unusable_reports_is_kept_in_the_ledger() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.report("a", {"loss": (1.7e308, 1.0)} | {f"a{number}": (1.0, 1.0) for number in range(63)})
    world.report("b", {"loss": (1.7e308, 1.0)} | {f"b{number}": (1.0, 1.0) for number in range(63)})
    world.tell(on.Evaluated(RUN, 1, None))
    assert len(world.ledger.runs()[0].metrics) == 64
