"""How the agent does a round's work: fetch its blobs, then have the trainer train or evaluate."""

from broker.messages import MAX_PROGRAM_BYTES, Assignment, AssignmentPhase, DeclineReason, Report
from edge_agent import effects as do
from edge_agent import events as on
from edge_agent.availability import Hindrance
from edge_agent.context import Context, IllegalEventError, Work
from edge_agent.duty import key_of
from edge_agent.seeds import derive_seed
from edge_agent.transitions import EVALUATING, FETCHING, IDLE, TRAINING

STATE_FOR = {AssignmentPhase.TRAINING: TRAINING, AssignmentPhase.EVALUATING: EVALUATING}


def begin_what_is_asked(c: Context) -> None:
    """Begin what the announced round asks of us, if it does."""
    asked = c.duty.asked(c.kept)
    if asked is None:
        return
    hindrance = _find_hindrance(c, asked)
    if hindrance is None:
        _begin(c, asked)
    elif asked.phase is AssignmentPhase.TRAINING:
        c.decline(asked, *hindrance)
    # Evaluating names nobody: whom the task cannot use leaves it to the others, and is not waited for.


def availability_judged(c: Context, event: on.AvailabilityJudged) -> None:
    """Leave training to others while something hinders us; an evaluation is begun again if there is time."""
    if not c.availability.judged(event.hindrance, c.now):
        return
    hindrance, busy = c.availability.hindrance, c.state in {TRAINING, EVALUATING}
    c.log(f"not available, {hindrance.reason}: {hindrance.detail}" if hindrance else "available again")
    if c.online:
        c.say_birth()
    if hindrance is None:
        return
    if c.work is not None and c.work.assignment.phase is AssignmentPhase.TRAINING:
        c.decline(c.work.assignment, *hindrance)
    elif c.work is not None:
        c.drop_work(IDLE)
    if not busy:
        # One that is kept warm takes memory that somebody else may be short of.
        c.add(do.StopTraining())


def _find_hindrance(c: Context, asked: Assignment) -> Hindrance | None:
    """Why we cannot do what is asked; found before anything is fetched."""
    if asked.runtime not in c.runtimes:
        here = ", ".join(c.runtimes) or "none"
        return Hindrance(
            DeclineReason.RUNTIME, f"its runtime {asked.runtime} is not installed; there is: {here}"
        )
    if asked.program.size > MAX_PROGRAM_BYTES:
        detail = f"program of {asked.program.size} bytes, at most {MAX_PROGRAM_BYTES} are read"
        return Hindrance(DeclineReason.PROGRAM, detail)
    if (lacking := c.misfit(asked)) is not None:
        return Hindrance(DeclineReason.NEEDS, lacking.why)
    return c.availability.hindrance


def _begin(c: Context, asked: Assignment) -> None:
    c.log(f"round {asked.round} of run {asked.run}: {asked.phase}")
    c.work = Work(asked, {asked.program.digest, asked.theta.digest})
    c.fetches.reset()
    c.fetch_at = c.now
    c.enter(FETCHING)
    fetch_when_due(c)


def fetch_when_due(c: Context) -> None:
    """Ask for the blobs: at once, and again some time after one of them came wrong."""
    if c.work is not None and c.fetch_at is not None and c.now >= c.fetch_at:
        c.fetch_at = None
        c.add(do.Fetch((c.work.assignment.program, c.work.assignment.theta)))


def fetched(c: Context, event: on.Fetched) -> None:
    """With the last blob the trainer can begin."""
    work = _fetching(c, event.digest)
    work.missing.remove(event.digest)
    if not work.missing:
        c.fetch_at = None
        c.enter(STATE_FOR[work.assignment.phase])
        _start_job(c, work)


def fetch_failed(c: Context, event: on.FetchFailed) -> None:
    """Try again what came wrong; a disk that cannot take it is final."""
    work = _fetching(c, event.digest)
    if event.fault is on.FetchFault.STORAGE:
        c.decline(work.assignment, DeclineReason.DISK, event.detail)
    else:
        c.log(f"blob {event.digest[:16]}: {event.detail}; it is fetched again", warning=True)
        c.fetch_at = c.now + c.fetches.delay_s()


def training_progressed(c: Context, event: on.TrainingProgressed) -> None:
    """Have it for the next heartbeat."""
    work = c.job(event.job)
    work.progress, work.examples_per_s = event.progress, event.examples_per_s


def speed_measured(c: Context, event: on.SpeedMeasured) -> None:
    """Tell how fast we are with a program that is new here; leave the round to others if that is too slow."""
    asked = c.job(event.job, {TRAINING}).assignment
    if asked.program.digest in c.kept.speeds:
        return
    c.keep_speed(asked.program.digest, event.examples_per_s)
    if c.online:
        c.say_birth()
    if (lacking := c.misfit(asked)) is not None:
        c.decline(asked, DeclineReason.NEEDS, lacking.why)


def evaluated(c: Context, event: on.Evaluated) -> None:
    """Report what was measured."""
    assignment = c.job(event.job, {EVALUATING}).assignment
    report = Report(run=assignment.run, round=assignment.round, metrics=event.metrics)
    c.keep(evaluated=key_of(assignment), report=report)
    c.say_report(report)
    c.work = None
    c.enter(IDLE)


def training_failed(c: Context, event: on.TrainingFailed) -> None:
    """Leave the round to others."""
    c.decline(c.job(event.job).assignment, event.reason, event.detail)


def trainer_died(c: Context, event: on.TrainerDied) -> None:
    """Try once more: it may have been short of memory for a moment."""
    work = c.job(event.job)
    key = key_of(work.assignment)
    if c.retried == key:
        c.decline(work.assignment, DeclineReason.TRAINING_FAILED, event.detail)
    else:
        c.retried = key
        c.log(f"the trainer died ({event.detail}): once more", warning=True)
        _start_job(c, work)


def _fetching(c: Context, digest: str) -> Work:
    if c.work is None or digest not in c.work.missing:
        raise IllegalEventError(f"blob {digest[:16]} is not being fetched")
    return c.work


def _start_job(c: Context, work: Work) -> None:
    c.jobs += 1
    work.job, work.progress = c.jobs, 0.0
    if c.state is EVALUATING:
        c.add(do.Evaluate(work.job, work.assignment))
        return
    given = work.assignment.settings
    seed = derive_seed(given.seed, work.assignment.round, c.device)
    settings = given.model_copy(update={"seed": seed})
    c.add(do.Train(work.job, work.assignment, settings, c.kept.sealing))
