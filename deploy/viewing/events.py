"""An event as a line for people."""

from datetime import datetime

from broker.happenings import Happening, Severity

MARKS = {Severity.INFO: " ", Severity.WARNING: "!", Severity.ERROR: "X"}


def line(event: Happening, *, brief: bool = False) -> str:
    """Time (here), severity, kind and text; who and what changed, where it was a command.

    Where there is little room, without date and kind.
    """
    at = datetime.fromtimestamp(event.at_unix_s).astimezone()
    changed = f" ({event.before} -> {event.after})" if event.before or event.after else ""
    by = f" by {event.user}" if event.user and event.user not in event.text else ""
    told = f"{event.text}{by}{changed}"
    if brief:
        return f"{at:%H:%M:%S} {MARKS[event.severity]} {told}"
    return f"{at:%Y-%m-%d %H:%M:%S} {MARKS[event.severity]} {event.kind:<12} {told}"
