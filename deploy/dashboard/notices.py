"""What somebody who looks should know first: what is cut off, silent or out of date, and mishaps."""

from dataclasses import dataclass

from broker.happenings import Severity
from deploy.viewing.standing import Believed, Standing
from deploy.viewing.view import View
from deploy.viewing.words import clock

SHOWN_INCIDENTS = 3


@dataclass(frozen=True)
class Notice:
    """One line."""

    severity: Severity
    text: str


def notices(view: View, found: Standing, missed: int) -> list[Notice]:
    """The worst first; `missed` messages were never looked at."""
    said = [] if found.believed is Believed.CURRENT else [_of_standing(view, found)]
    if missed:
        text = (
            f"{missed} messages came faster than they could be read; what is shown catches up with renewals."
        )
        said.append(Notice(Severity.WARNING, text))
    if view.unreadable:
        text = f"{view.unreadable} documents cannot be read: is the aggregator of another version?"
        said.append(Notice(Severity.WARNING, text))
    return said + _of_incidents(view)


def _of_standing(view: View, found: Standing) -> Notice:
    cut_off = found.believed in (Believed.UNREACHABLE, Believed.REFUSED)
    before = " What is shown is from before." if cut_off and view.aggregator is not None else ""
    end = "" if found.text.endswith("?") else "."
    return Notice(found.severity, f"{found.text[0].upper()}{found.text[1:]}{end}{before}")


def _of_incidents(view: View) -> list[Notice]:
    incidents = view.incidents.incidents if view.incidents is not None else ()
    return [
        Notice(Severity.WARNING, f"{clock(one.at_unix_s)} {one.kind}: {one.subject}: {one.detail}")
        for one in incidents[:SHOWN_INCIDENTS]
    ]
