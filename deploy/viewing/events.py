"""An event as a line for people."""

from broker.happenings import Happening, Severity
from deploy.viewing.words import clock, moment

MARKS = {Severity.INFO: " ", Severity.WARNING: "!", Severity.ERROR: "X"}


def line(event: Happening, *, brief: bool = False) -> str:
    """Time (here), severity, kind and text; who and what changed, where it was a command.

    Where there is little room, without date and kind.
    """
    changed = f" ({event.before} -> {event.after})" if event.before or event.after else ""
    by = f" by {event.user}" if event.user and event.user not in event.text else ""
    told = f"{event.text}{by}{changed}"
    if brief:
        return f"{clock(event.at_unix_s)} {MARKS[event.severity]} {told}"
    return f"{moment(event.at_unix_s)} {MARKS[event.severity]} {event.kind:<12} {told}"
