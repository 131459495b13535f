"""One line an event on stderr, for people, for the journal, and for tools."""

import logging
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, TypeAlias, get_args

from host.lines import Fields, FieldsFormatter, Write, as_json, as_keyvalue

LEVELS = ("debug", "info", "warning", "error")
LogFormat: TypeAlias = Literal["text", "keyvalue", "json"]
FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
ABOUT_FORMAT = "how log lines are written: for people, or as fields for tools; --log-format says it, too"
_WRITES: Mapping[str, Write] = {"keyvalue": as_keyvalue, "json": as_json}
# The journal stamps each line itself, and reads the syslog priority in front of it.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# A terminal obeys these, and the journal hides a line that has one.
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "?") | {ord("\n"): " | ", ord("\t"): " "}

log = logging.getLogger(__name__)


class _OneLine(logging.Formatter):
    """Keeps a message on its line, so that nothing from outside can fake another."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else text.translate(_CONTROLS)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # generic for type checkers alone
    """Writes to stderr; `fields` makes the lines, unless they are text."""

    def __init__(self, form: str, ids: Fields, *, journal: bool) -> None:
        super().__init__(sys.stderr)
        self._journal = journal
        self.fields: FieldsFormatter | None = None
        if form in _WRITES:
            self.fields = FieldsFormatter(_WRITES[form], ids, timed=not journal)
            self.setFormatter(self.fields)
        elif journal:
            self.setFormatter(_OneLine("%(message)s"))
        else:
            self.setFormatter(_OneLine("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", "%H:%M:%S"))

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>" if self._journal else ""
        return f"{prefix}{super().format(record)}"


def configure_logging(
    level: str, environment: Mapping[str, str], form: str = "text", **ids: str | None
) -> None:
    """Send log records of `level` (one of LEVELS) and above to stderr, in one of FORMATS.

    `ids` stand in each line that has fields: the service, its federation, its device.
    """
    handler = _Handler(form, ids, journal="JOURNAL_STREAM" in environment)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if handler.fields is not None:
        # Python would write these on several lines.
        logging.captureWarnings(capture=True)
        sys.excepthook = _uncaught
        threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def name_work(**ids: str | int | None) -> None:
    """Have every line that has fields say from now on what is worked on: the run and the round, or None."""
    for fields in _formatters():
        fields.in_hand = ids


def say(text: str, level: int = logging.INFO, **ids: str) -> None:
    """Write what is no log record, whatever the level: as it is, or in one that has fields."""
    if any(_formatters()):
        log.handle(log.makeRecord(__name__, level, "", 0, text.rstrip(), (), None, extra=ids))
    else:
        sys.stderr.write(text)


def _formatters() -> list[FieldsFormatter]:
    handlers = logging.getLogger().handlers
    return [handler.fields for handler in handlers if isinstance(handler, _Handler) and handler.fields]


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None:
        log.critical(
            "ended by an error that nobody expected: %s", kind.__name__, exc_info=(kind, error, trace)
        )
