"""How participants spend the open round: what they are heard to do, when, and how much they fetch for it."""

from aggregator.coordinator.context import Context
from aggregator.coordinator.state import Participant, Step
from aggregator.records import Course, RoundClosed
from broker.messages import AgentState, Heartbeat

REPORTED = "reported"
MAX_STEPS = 16
# A device may claim any number; sums of these fit into SQLite's 64 bits.
MAX_BYTES = 1 << 50

_WORK = {AgentState.FETCHING, AgentState.TRAINING, AgentState.UPLOADING, AgentState.EVALUATING}
# What a device whose update counts still has to do; of its upload it may speak until it has the receipt.
_AFTERWARDS = {AgentState.FETCHING, AgentState.EVALUATING}


def joined(c: Context, device: str, *, invited: bool = False) -> Participant:
    """One more participant; what it fetched before is none of the round's."""
    beat = c.fleet.devices[device].heartbeat
    return Participant(invited=invited, counted_down=None if beat is None else beat.bytes_down)


def heard(c: Context, device: str, beat: Heartbeat) -> None:
    """Take from a participant's heartbeat what it does and fetched; others are passed over."""
    run, known = c.run, c.fleet.devices.get(device)
    if run is None or run.round is None or device not in run.round.cohort:
        return
    if known is None or known.heartbeat is not beat:
        # Another machine's with the same id: the fleet does not listen to it either.
        return
    current, part = run.round, run.round.cohort[device]
    _count(part, beat.bytes_down)
    ours = (beat.run, beat.round) == (run.run, current.number)
    works = ours and beat.state in (_AFTERWARDS if part.accepted else _WORK)
    rests = beat.state is AgentState.IDLE and part.steps and part.steps[-1].state in _WORK
    if works or rests:
        _step(part, beat.state, current.open_s)


def reported(c: Context, part: Participant) -> None:
    """Its update counts from now on."""
    _, current, _ = c.open_round()
    part.reported_s = current.open_s
    _step(part, REPORTED, current.open_s)


def record_closed(c: Context, closed: RoundClosed) -> None:
    """Note that the open round is over, and how each participant spent it."""
    _, current, _ = c.open_round()
    for name, part in sorted(current.cohort.items()):
        c.records.append(Course(closed.run, closed.round, name, tuple(part.steps), part.bytes_down))
    c.records.append(closed)


def _count(part: Participant, counter: int) -> None:
    """A counter that went back began anew, with the agent."""
    before, part.counted_down = part.counted_down, counter
    if before is not None:
        more = counter - before if counter >= before else counter
        part.bytes_down = min(part.bytes_down + more, MAX_BYTES)


def _step(part: Participant, state: str, at_s: float) -> None:
    """Of too many steps, the newest takes the place of the last."""
    if not part.steps or part.steps[-1].state != state:
        part.steps[MAX_STEPS - 1 :] = []
        part.steps.append(Step(state=state, at_s=round(at_s, 3)))
