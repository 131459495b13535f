"""The key that announcements have to be signed with: the pinned one, or the newest that followed it.

A key that was followed once is kept in the state folder, so that those before it are obeyed no more. Another
key in the settings is another beginning.
"""

import json
import logging
from pathlib import Path

from broker.signing import successor
from host.files import write_atomic

FILE = "aggregator-key.json"
MAX_FILE_BYTES = 1024

log = logging.getLogger(__name__)


class Pin:
    """What the settings pin, and what has become of it; `key` is None where nothing is pinned."""

    def __init__(self, pinned: str | None, folder: Path) -> None:
        self._pinned = pinned
        self._path = folder / FILE
        self.key = self._followed() if pinned is not None else None

    def follow(self, topic: str, payload: bytes) -> None:
        """Take the successor that an announcement names, once that was found to be true."""
        if self.key is None or (key := successor(topic, payload, self.key)) == self.key:
            return
        log.warning("the aggregator's signing key %s... gave way to %s...", self.key[:8], key[:8])
        self.key = key
        try:
            write_atomic(self._path, json.dumps({"pinned": self._pinned, "key": key}).encode())
        except OSError as error:
            log.warning(
                "%s cannot be written: %s; the change is followed again after a restart", self._path, error
            )

    def _followed(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                kept = json.loads(file.read(MAX_FILE_BYTES))
            pinned, key = kept["pinned"], kept["key"]
        except FileNotFoundError:
            return self._pinned
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read, beginning with the key of the settings: %r", self._path, error)
            return self._pinned
        return str(key) if pinned == self._pinned else self._pinned
