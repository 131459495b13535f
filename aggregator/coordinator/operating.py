"""What operators do to a run, and what a new connection or a restart asks for."""

from aggregator.coordinator import effects as do
from aggregator.coordinator import evaluating, mishaps, training
from aggregator.coordinator import events as on
from aggregator.coordinator.context import Context, refuse_unless
from aggregator.coordinator.phases import Decision, Phase, RunOutcome
from aggregator.coordinator.state import Model, Run
from aggregator.records import Decided, RunPrepared, RunStarted, Transition
from broker.messages import RejectReason

BY_OPERATOR = "paused by an operator"


def start(c: Context, event: on.StartRun) -> None:
    """One run at a time."""
    refuse_unless(c.run is None, f"run {c.run.run if c.run else ''} is active: stop it first")
    c.run = Run(run=event.run, task=event.task, settings=event.settings)
    settings = event.settings
    dumped = settings.model_dump(mode="json")
    c.records.append(
        RunStarted(event.run, event.task, dumped, settings.seed, settings.initial, event.request)
    )
    c.records.append(Transition(event.run, None, Phase.IDLE, Phase.PREPARING))
    c.effects.append(do.Prepare(event.run, event.task, settings))


def stop(c: Context, _: on.StopRun) -> None:
    """The newest model stays."""
    run, reason = c.active_run(), "stopped by an operator"
    if run.phase is Phase.EVALUATING:
        evaluating.record_outcome(c, reason)
    elif run.round is not None:
        training.record_abandoned(c, reason)
    c.end_run(run, RunOutcome.STOPPED, reason)


def pause(c: Context, _: on.PauseRun) -> None:
    """Granted uploads still come in."""
    run = c.active_run()
    refuse_unless(run.paused is None, f"run {run.run} is paused already")
    c.stop_clock(run, BY_OPERATOR)


def resume(c: Context, _: on.ResumeRun) -> None:
    """The clock goes on where it stood."""
    run = c.active_run()
    refuse_unless(run.paused is not None, f"run {run.run} is not paused")
    run.abandoned_in_a_row = 0
    mishaps.go_on(c, run)


def exclude(c: Context, event: on.ExcludeDevice) -> None:
    """Know the device no more, and wait for nothing of it; an update that was accepted before counts."""
    c.fleet.forget(event.device)
    c.due.pop(event.device, None)
    run = c.run
    if run is not None and run.late is not None and event.device in run.late.owing:
        run.late.owing.remove(event.device)
    if run is None or run.round is None:
        return
    part = run.round.cohort.get(event.device)
    if part is not None and part.outstanding:
        part.rejected = RejectReason.NOT_INVITED
        decided = Decided(run.run, run.round.number, event.device, Decision.EXCLUDES, event.reason)
        c.records.append(decided)


def prepared(c: Context, event: on.Prepared) -> None:
    """The task's model is built: publish it, and wait for devices."""
    run = c.run_in(Phase.PREPARING, event.run)
    run.model = Model(
        theta=event.theta,
        program=event.program,
        layout=event.layout,
        runtime=event.runtime,
        contract=event.contract,
        parameters=event.parameters,
        needs=event.needs,
    )
    c.records.append(RunPrepared(run.run, event.theta, event.program, event.layout, event.parameters))
    c.go(run, Phase.WAITING)
    c.publish(run, run.model)


def prepare_failed(c: Context, event: on.PrepareFailed) -> None:
    """A task that cannot be built ends its run."""
    c.end_run(c.run_in(Phase.PREPARING, event.run), RunOutcome.FAILED, event.reason)


def connected(c: Context, _: on.Connected) -> None:
    """The broker may have lost or revived anything: say everything again."""
    c.fleet.connected(c.now)
    c.due.clear()
    if c.run is not None and c.run.model is not None:
        c.publish(c.run, c.run.model)
    else:
        c.effects += [do.Announce(None), do.RetractBlobs(())]


def disconnected(c: Context, _: on.Disconnected) -> None:
    """What we hear from now on says nothing about devices."""
    c.published = False
    c.fleet.disconnected(c.now)
    c.due.clear()


def blobs_published(c: Context, event: on.BlobsPublished) -> None:
    """Devices can fetch the model: announce it, and take the one before off the broker."""
    run = c.active_run()
    wanted = run.model is not None and event.blobs == run.model.blobs
    refuse_unless(wanted, "these blobs are no longer wanted")
    c.published = True
    c.announce()
    c.effects.append(do.RetractBlobs(event.blobs))


def restored(c: Context, _: on.Restored) -> None:
    """Ask again for what an earlier process asked and may not have got."""
    run = c.run
    if run is not None and run.phase is Phase.PREPARING:
        c.effects.append(do.Prepare(run.run, run.task, run.settings))
    elif run is not None and run.phase is Phase.AGGREGATING:
        training.aggregate(c)
    elif run is not None and run.phase is Phase.EVALUATING:
        evaluating.evaluate(c)
