"""The evaluating phase: the new theta is saved, evaluated here and on the devices, and the round closes."""

import math

from aggregator.coordinator import course
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.context import Context, refuse_unless
from aggregator.coordinator.fitness import note_decline
from aggregator.coordinator.phases import Phase, RoundOutcome, RunOutcome
from aggregator.coordinator.state import Round, Run
from aggregator.records import Declined, Reported, RoundClosed
from broker.messages import DeclineReason
from broker.names import Metrics

# As in one report: the sum is shown where a report is.
MAX_NAMES = 64


def aggregated(c: Context, event: on.Aggregated) -> None:
    """The round has a new theta: publish and evaluate it."""
    run = c.run_in(Phase.AGGREGATING, event.run, event.round)
    assert run.model is not None
    run.model.theta = event.theta
    c.go(run, Phase.EVALUATING)
    c.set_deadline(run, run.settings.evaluation_deadline_s)
    c.publish(run, run.model)
    evaluate(c)


def evaluate(c: Context) -> None:
    """Have the model file saved and evaluated, unless that is done."""
    run, current, model = c.open_round()
    if not current.centrally_evaluated:
        c.effects.append(do.Evaluate(run.run, current.number, run.task, model.theta))


def evaluated(c: Context, event: on.Evaluated) -> None:
    """Metrics on the task's held-out data, if it has any."""
    c.run_in(Phase.EVALUATING, event.run, event.round)
    _, current, _ = c.open_round()
    current.centrally_evaluated, current.metrics = True, event.metrics


def evaluation_failed(c: Context, event: on.EvaluationFailed) -> None:
    """The model stays, unevaluated."""
    c.run_in(Phase.EVALUATING, event.run, event.round)
    _, current, _ = c.open_round()
    current.centrally_evaluated, current.evaluation_failed = True, event.reason


def device_report(c: Context, event: on.DeviceReport) -> None:
    """Metrics of the new model on a device's own data, or why a device does not take part."""
    report = event.report
    run, current, _ = c.open_round()
    this_one = (report.run, report.round) == (run.run, current.number)
    refuse_unless(this_one, f"round {report.round} of {report.run} is not open")
    if report.declined is not None:
        _decline(c, current, event, report.declined)
    elif report.metrics is not None:
        refuse_unless(run.phase is Phase.EVALUATING, "the round's new model is not there yet")
        refuse_unless(current.reports.get(event.device) is None, "this device reported before")
        current.reports[event.device] = report.metrics
        c.records.append(Reported(run.run, current.number, event.device, report.metrics))


def close_when_done(c: Context) -> None:
    """Wait for the evaluator and, once the new model is announced, for who lives; but not for ever."""
    _, current, _ = c.open_round()
    if c.overdue or (current.centrally_evaluated and _everybody_reported(c)):
        _close(c)


def _everybody_reported(c: Context) -> bool:
    return not c.active_run().settings.federated_evaluation or (c.published and not c.awaited())


def _decline(c: Context, current: Round, event: on.DeviceReport, reason: DeclineReason) -> None:
    run = c.active_run()
    if run.phase is Phase.EVALUATING:
        refuse_unless(event.device not in current.reports, "this device reported before")
        current.reports[event.device] = None
    else:
        part = current.cohort.get(event.device)
        refuse_unless(part is not None and part.outstanding, "this device owes no update")
        assert part is not None
        part.declined = reason
    note_decline(c.fleet, run, event.device, reason, event.report.detail)
    c.records.append(Declined(run.run, current.number, event.device, reason, event.report.detail))


def record_outcome(c: Context, unfinished: str) -> bool:
    """Note how the round ended, and why its evaluation did not finish; whether it reached the run's rule."""
    run, current, model = c.open_round()
    good_enough = _good_enough(c)
    late = "" if current.centrally_evaluated else unfinished
    reached = f"reached {run.settings.stop_when}" if good_enough else _complaint(c)
    closed = RoundClosed(
        run=run.run,
        round=current.number,
        outcome=RoundOutcome.COMPLETED if _evaluated_well(current) else RoundOutcome.UNEVALUATED,
        reason=current.evaluation_failed or late or reached,
        theta=model.theta,
        metrics=current.metrics,
        federated=_federated(current),
    )
    course.record_closed(c, closed)
    return good_enough


def _close(c: Context) -> None:
    run, _, _ = c.open_round()
    run.complaint = _complaint(c)
    good_enough = record_outcome(c, "the evaluator did not finish in time")
    run.round, run.abandoned_in_a_row = None, 0
    run.completed += 1
    if good_enough or run.completed >= run.settings.rounds:
        c.end_run(run, RunOutcome.FINISHED, _summary(run, good_enough=good_enough))
        return
    c.go(run, Phase.WAITING)
    c.effects.append(do.WriteHistory(run.run))
    c.announce()


def _summary(run: Run, *, good_enough: bool) -> str:
    rounds = "1 round" if run.completed == 1 else f"{run.completed} rounds"
    rule = run.settings.stop_when
    if rule is None:
        return rounds
    if good_enough:
        return f"{rule} after {rounds}"
    return f"{rounds}; {run.complaint}" if run.complaint else f"{rounds}, none reached {rule}"


def _good_enough(c: Context) -> bool:
    """Whether the round's evaluation fulfils the run's rule."""
    rule = c.active_run().settings.stop_rule
    return rule is not None and rule.fulfilled(_decisive(c))


def _complaint(c: Context) -> str:
    """That the rule asks for what the round's evaluation does not measure."""
    rule = c.active_run().settings.stop_rule
    return "" if rule is None else rule.complaint(_decisive(c))


def _decisive(c: Context) -> Metrics | None:
    """The evaluation that a rule is about: that on the aggregator's held-out data.

    The devices' own counts only where there is no such data: it is another measure, so it does not stand in
    for an evaluation that failed.
    """
    _, current, _ = c.open_round()
    if not _evaluated_well(current):
        return None
    return _federated(current) if current.metrics is None else current.metrics


def _evaluated_well(current: Round) -> bool:
    return current.centrally_evaluated and not current.evaluation_failed


def _federated(current: Round) -> Metrics | None:
    return sum_metrics([report for report in current.reports.values() if report is not None])


def sum_metrics(reports: list[Metrics]) -> Metrics | None:
    """Add (sum, weight) pairs by name; None when nobody reported.

    What overflows, and names beyond what a message may hold, are left out: they are some device's mistake.
    """
    total: Metrics = {}
    for report in reports:
        for name, (value, weight) in report.items():
            value_so_far, weight_so_far = total.get(name, (0.0, 0.0))
            total[name] = (value_so_far + value, weight_so_far + weight)
    finite = sorted(name for name, pair in total.items() if all(map(math.isfinite, pair)))
    return {name: total[name] for name in finite[:MAX_NAMES]} if reports else None
