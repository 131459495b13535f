"""What a person wants to know first: the fleet, the run and the round in a line each; pure."""

from collections import Counter
from typing import NamedTuple

from broker.monitor import RoundDocument, RunDocument
from broker.topics import MONITOR_ROUND, MONITOR_RUN
from deploy.viewing.agreement import OVER
from deploy.viewing.view import View
from deploy.viewing.words import duration, metrics


class Line(NamedTuple):
    """What is said, and how far it is (0 to 1) where that is known."""

    text: str
    done: float | None = None


class Summary(NamedTuple):
    """The three lines."""

    fleet: Line
    run: Line
    round: Line


def summary(view: View, federation: str, now: float) -> Summary:
    """Spell out a view at `now`, as the view counts time: what is left goes down between two documents."""
    run = view.run
    current = current_round(view)
    return Summary(
        _fleet(view, federation),
        Line("no run yet: midge start TASK") if run is None else _run(view, run, now),
        Line("") if run is None or current is None else _round(view, run, current, now),
    )


def current_round(view: View) -> RoundDocument | None:
    """The open round of the run that is shown, or its last one."""
    rounds = view.rounds(view.run.run) if view.run is not None else []
    return rounds[-1] if rounds else None


def _fleet(view: View, name: str) -> Line:
    document, devices = view.federation, view.devices.values()
    unread = f"  {view.unreadable} documents cannot be read" if view.unreadable else ""
    if document is None:
        return Line(f"federation {name}{unread}")
    # Once all are here, as they are listed below: their own documents come at other times.
    live, counted = document.live, document.states
    if len(devices) >= document.devices:
        live, counted = view.live, Counter(one.state for one in devices)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counted.items()) if count)
    told = f"{live} of {document.devices} devices live"
    dropped = f"  {document.messages_dropped} messages dropped" if document.messages_dropped else ""
    return Line(f"federation {name}  {told}{f': {states}' if states else ''}{dropped}{unread}")


def _run(view: View, run: RunDocument, now: float) -> Line:
    current = current_round(view)
    # The round's own line says the phase.
    state = [] if current is not None and current.phase == run.state else [run.state]
    parts = [f"run {run.run}", *state, f"round {min(run.round, run.rounds)} of {run.rounds}"]
    if run.seconds_left is not None and run.state not in OVER:
        held = 0.0 if run.state == "paused" else view.age_s(MONITOR_RUN, now, run=run.run)
        parts.append(f"about {duration(run.seconds_left - held)} left")
    parts += [text for text in (metrics(run.metrics), run.reason) if text]
    return Line("  ".join(parts), min(1.0, _done(run, current) / run.rounds) if run.rounds else None)


def _done(run: RunDocument, current: RoundDocument | None) -> int:
    if run.state in OVER or current is None:
        return run.round
    return current.round if current.outcome is not None else current.round - 1


def _round(view: View, run: RunDocument, current: RoundDocument, now: float) -> Line:
    held = 0.0 if run.state == "paused" else view.age_s(MONITOR_ROUND, now, run=run.run, round=current.round)
    parts = [
        f"round {current.round}",
        current.outcome or current.phase,
        f"{current.reported} of {current.target} updates (quorum {current.quorum})",
    ]
    if current.outcome is None:
        if current.eta_s is not None:
            parts.append(f"enough in {duration(current.eta_s - held)}")
        if current.seconds_left is not None:
            parts.append(f"{duration(current.seconds_left - held)} left at most")
    else:
        parts += [duration(current.seconds)] if current.seconds else []
        parts += [text for text in (metrics(current.metrics or current.federated),) if text]
    parts += [current.reason] if current.reason else []
    return Line("  ".join(parts), min(1.0, current.reported / current.target) if current.target else None)
