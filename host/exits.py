"""Exit codes: one enumeration, a line of help each."""

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """What a midge process says with its exit status."""

    help: str

    def __new__(cls, value: int, help_line: str) -> Self:
        """Attach the line of help to the number."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.help = help_line
        return member

    OK = 0, "The work is done, or the process was asked to stop."
    FAILED = 1, "Something went wrong that a restart may cure; the last line of the log says what."
    USAGE = 2, "The command line was not understood; see --help."
    BAD_DATA = 65, "The given data or model could not be used; nothing was changed."
    UNREACHABLE = 69, "The broker or the aggregator cannot be reached, or did not answer in time."
    REFUSED_CREDENTIALS = 77, "The broker refused user name, password or certificate several times in a row."
    BAD_CONFIG = (
        78,
        "A setting is missing or wrong; systemd does not restart the service, mend the file first.",
    )
    ANOTHER_AGGREGATOR = (
        79,
        "Another aggregator serves this federation; systemd does not restart this one: stop one of the two.",
    )
