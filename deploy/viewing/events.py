"""An event as a line for people."""

from datetime import datetime

from broker.happenings import Happening, Severity

MARKS = {Severity.INFO: " ", Severity.WARNING: "!", Severity.ERROR: "X"}


def line(event: Happening) -> str:
    """Time (here), severity, kind and text; who and what changed, where it was a command."""
    changed = f" ({event.before} -> {event.after})" if event.before or event.after else ""
    at = f"{_at(event):%Y-%m-%d %H:%M:%S}"
    return f"{at} {MARKS[event.severity]} {event.kind:<12} {_told(event)}{changed}"


def brief(event: Happening) -> tuple[str, str, str]:
    """Where there is little room: time of day, severity, text and who."""
    return f"{_at(event):%H:%M:%S}", MARKS[event.severity], _told(event)


def _at(event: Happening) -> datetime:
    return datetime.fromtimestamp(event.at_unix_s).astimezone()


def _told(event: Happening) -> str:
    by = f" by {event.user}" if event.user and event.user not in event.text else ""
    return f"{event.text}{by}"
