"""An event as a line for people."""

from broker.happenings import Happening, Severity
from deploy.viewing.words import clock, moment

MARKS = {Severity.INFO: " ", Severity.WARNING: "!", Severity.ERROR: "X"}


def line(event: Happening) -> str:
    """Time (here), severity, kind and text; who and what changed, where it was a command."""
    changed = f" ({event.before} -> {event.after})" if event.before or event.after else ""
    return f"{moment(event.at_unix_s)} {MARKS[event.severity]} {event.kind:<12} {_told(event)}{changed}"


def brief(event: Happening) -> tuple[str, str, str]:
    """Where there is little room: time of day, severity, text and who."""
    return clock(event.at_unix_s), MARKS[event.severity], _told(event)


def _told(event: Happening) -> str:
    by = f" by {event.user}" if event.user and event.user not in event.text else ""
    return f"{event.text}{by}"
