"""What somebody who looks should know first: what is cut off, silent or out of date."""

from dataclasses import dataclass

from broker.happenings import Severity
from broker.topics import MONITOR_AGGREGATOR, MONITOR_FEDERATION
from deploy.dashboard.words import clock, duration
from deploy.viewing.view import View

SHOWN_INCIDENTS = 3


@dataclass(frozen=True)
class Notice:
    """One line."""

    severity: Severity
    text: str


def notices(view: View, trouble: str, cut_off_s: float | None, missed: int, now: float) -> list[Notice]:
    """The worst first; `cut_off_s` is since when the broker is not there, None while it is."""
    if cut_off_s is not None:
        return [_cut_off(view, trouble, cut_off_s)]
    found = [Notice(Severity.ERROR, trouble)] if trouble else []
    found += _of_aggregator(view, now)
    if missed:
        text = (
            f"{missed} messages came faster than they could be read; what is shown catches up with renewals."
        )
        found.append(Notice(Severity.WARNING, text))
    if view.unreadable:
        text = f"{view.unreadable} messages could not be read: is the aggregator of another version?"
        found.append(Notice(Severity.WARNING, text))
    return found + _of_incidents(view)


def _cut_off(view: View, trouble: str, cut_off_s: float) -> Notice:
    known = " What is shown is from before." if view.aggregator is not None else ""
    text = f"No connection to the broker for {duration(cut_off_s)} ({trouble}); it is tried again."
    return Notice(Severity.ERROR, text + known)


def _of_aggregator(view: View, now: float) -> list[Notice]:
    aggregator = view.aggregator
    if aggregator is None:
        return [Notice(Severity.WARNING, "No aggregator has been heard on this broker yet.")]
    if not aggregator.online:
        since = f" since {clock(aggregator.at_unix_s)}" if aggregator.at_unix_s else ""
        text = f"The aggregator is offline{since}. What is shown is what it said last."
        return [Notice(Severity.ERROR, text)]
    silences = (view.silent_s(branch, now) for branch in (MONITOR_AGGREGATOR, MONITOR_FEDERATION))
    silent_s = max((one for one in silences if one is not None), default=None)
    if silent_s is None:
        return []
    text = f"The aggregator has been silent for {duration(silent_s)}. What is shown is out of date."
    return [Notice(Severity.ERROR, text)]


def _of_incidents(view: View) -> list[Notice]:
    incidents = view.incidents.incidents if view.incidents is not None else ()
    return [
        Notice(Severity.WARNING, f"{clock(one.at_unix_s)} {one.kind}: {one.subject}: {one.detail}")
        for one in incidents[:SHOWN_INCIDENTS]
    ]
