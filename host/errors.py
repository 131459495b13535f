"""Errors split by whose fault they are, so that a caller knows whether to try again."""


class MidgeError(Exception):
    """Any error midge raises on purpose.

    MidgeError
    ├── ConfigError       the operator's: mend a setting, do not retry   (exit 78)
    ├── DataError         the data's owner's: mend the data, do not retry
    ├── WireError         the sender's: drop the message, count it, go on
    │   ├── ForgeryError  its sender is not who it must be
    │   └── SealError     it is not sealed, or does not open
    ├── ChildError        a child process died or answered nonsense: may be retried
    └── StorageError      the machine's: file damaged or missing
        └── NoRoomError   disk full, quota used up, read-only: may be retried when there is room
    """


class ConfigError(MidgeError):
    """A setting is missing, unknown or wrong; retrying does not help."""


class DataError(MidgeError):
    """Data is missing, empty, unreadable or does not fit the data contract."""


class WireError(MidgeError):
    """Bytes from the broker are no valid message; whoever sent them is at fault."""


class ForgeryError(WireError):
    """A signature is wrong: the message is not from whom we obey, or was not meant for us."""


class SealError(WireError):
    """What should be sealed is not, or does not open: it is of another key, place or sender, or damaged."""


class ChildError(MidgeError):
    """A child process failed, died or answered nonsense."""


class StorageError(MidgeError):
    """A file of ours is missing, damaged or could not be written."""


class NoRoomError(StorageError):
    """The disk takes no more for now: full, over quota, read-only or failing; what is there is unharmed."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library's own says; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
