"""Quiet for libraries that write to stderr while they are loaded, and that no setting stops."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def stderr_closed() -> Iterator[None]:
    """Drop what this process writes to stderr, native code included; exceptions say what they always say."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
