"""One line an event on stderr, for people and for the journal."""

import logging
import sys
from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")
# The journal stamps each line itself, and reads the syslog priority in front of it.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# A terminal obeys these, and the journal hides a line that has one.
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "?") | {ord("\n"): " | ", ord("\t"): " "}


class _OneLine(logging.Formatter):
    """Keeps a message on its line, so that nothing from outside can fake another."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else text.translate(_CONTROLS)


class _ForJournal(_OneLine):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def configure_logging(level: str, environment: Mapping[str, str]) -> None:
    """Send log records of `level` (one of LEVELS) and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in environment:
        handler.setFormatter(_ForJournal("%(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
