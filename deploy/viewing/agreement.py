"""A run and its open round have documents of their own, which come at different times; pure."""

from broker.monitor import RoundDocument, RunDocument

OVER = frozenset({"finished", "stopped", "failed"})
# Phases that a run is in for as long as a round is open.
OF_A_ROUND = frozenset({"training", "aggregating", "evaluating"})
BETWEEN_ROUNDS, PAUSED = "waiting", "paused"


def agreed(run: RunDocument, current: RoundDocument) -> tuple[RunDocument, RoundDocument]:
    """Both, where the older of the two documents takes over what the newer one knows."""
    if run.state in OVER:
        return run, current
    if current.at_unix_s > run.at_unix_s:
        return _caught_up(run, current), current
    if run.round == current.round and current.outcome is None and run.state in OF_A_ROUND | {PAUSED}:
        return run, _moved_on(current, run.state)
    return run, current


def _caught_up(run: RunDocument, current: RoundDocument) -> RunDocument:
    state = run.state
    if current.outcome is None:
        state = current.phase
    elif run.state in OF_A_ROUND and run.round <= current.round:
        state = BETWEEN_ROUNDS
    if (state, current.round) == (run.state, run.round) or current.round < run.round:
        return run
    return run.model_copy(update={"state": state, "round": current.round})


def _moved_on(current: RoundDocument, phase: str) -> RoundDocument:
    if phase == current.phase:
        return current
    # What is left was that of the phase before; a pause stops the clock and no more.
    left = {} if phase == PAUSED else {"seconds_left": None, "eta_s": None}
    return current.model_copy(update={"phase": phase, **left})
