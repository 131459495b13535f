"""An event as a line for people."""

from datetime import datetime

from broker.happenings import Happening, Severity

MARKS = {Severity.INFO: " ", Severity.WARNING: "!", Severity.ERROR: "X"}


def line(event: Happening, *, date: bool = False) -> str:
    """Time of day (here), severity, kind and text; who and what changed, where it was a command."""
    at = datetime.fromtimestamp(event.at_unix_s).astimezone()
    when = f"{at:%Y-%m-%d %H:%M:%S}" if date else f"{at:%H:%M:%S}"
    changed = f" ({event.before} -> {event.after})" if event.before or event.after else ""
    by = f" by {event.user}" if event.user and event.user not in event.text else ""
    return f"{when} {MARKS[event.severity]} {event.kind:<12} {event.text}{by}{changed}"
