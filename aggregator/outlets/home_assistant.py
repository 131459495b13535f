"""Describes the federation and its devices to Home Assistant, and takes that back when they are gone."""

import json
import logging
import random
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Protocol

from aggregator.outlets.entities import MAX_METRICS, device_payload, federation_payload
from aggregator.watch.bucket import Bucket
from broker.discovery import FEDERATION, Discovery
from broker.happenings import EventDocument
from broker.monitor import DeviceDocument, Document, FederationDocument, RunDocument
from broker.names import is_of_whole
from host.files import write_atomic

# Beside what stands under monitor/, so that a large fleet is told in a minute or so.
MESSAGES_PER_S, MESSAGES_AT_ONCE = 8.0, 8.0
# Home Assistant has much to do when it starts.
BIRTH_SPREAD_S = 10.0
BIRTH = b"online"
TOLD = "home-assistant.json"
# It is written whole, and synced: a large fleet must not wear out the disk, nor have rounds wait for it.
KEPT_EVERY_S = 10.0

log = logging.getLogger(__name__)


class Send(Protocol):
    """Publishes a retained message; False when it could not be sent now."""

    def __call__(self, topic: str, payload: bytes) -> bool:
        """Of an empty payload the broker forgets what it retained."""


class HomeAssistant:
    """Keeps the descriptions on the broker as they ought to be; which are there is kept in a file.

    What an earlier process described, and what is not to be described any more, is taken back: devices that
    are `excluded`, all of it where `discovery` is None, and what stands under another prefix.
    """

    def __init__(
        self,
        discovery: Discovery | None,
        folder: Path,
        send: Send,
        version: str,
        beat_s: float,
        excluded: Collection[str],
        *,
        discreet: bool,
    ) -> None:
        self._discovery = discovery
        self._file = folder / TOLD
        self._send = send
        self._version = version
        self._beat_s = beat_s
        self._discreet = discreet
        self._told = _read(self._file)
        self._kept = frozenset(self._told)
        self._wanted: dict[str, bytes] = {}
        self._pending: dict[str, None] = dict.fromkeys(
            topic for topic in sorted(self._told) if self._is_over(topic, excluded)
        )
        self._keep_at = 0.0
        self._bucket = Bucket(MESSAGES_PER_S, MESSAGES_AT_ONCE)
        self._run: str | None = None
        self._metrics: list[str] = []
        self._again_at: float | None = None
        self._complained = False

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Where to hear that Home Assistant starts."""
        return [] if self._discovery is None else [(self._discovery.status, 1)]

    def _is_over(self, topic: str, excluded: Collection[str]) -> bool:
        name = None if self._discovery is None else self._discovery.name_of(topic)
        return name is None or name in excluded

    # -- what is to be said ------------------------------------------------------------------------

    def see(self, document: Document | EventDocument) -> None:
        """A document was published."""
        if self._discovery is None:
            return
        if isinstance(document, DeviceDocument):
            payload = device_payload(
                self._discovery,
                self._version,
                document.device,
                document.version,
                discreet=self._discreet,
            )
            self._want(self._discovery.topic(document.device), payload)
        elif isinstance(document, RunDocument):
            # Those of an earlier run stay, for the newest may not have measured anything yet.
            names = [*filter(is_of_whole, sorted(document.metrics)), *self._metrics]
            self._metrics = list(dict.fromkeys(names))[:MAX_METRICS]
            self._describe_federation(document.run)
        elif isinstance(document, FederationDocument):
            self._describe_federation(document.run)

    def forget(self, device: str) -> None:
        """A device is gone."""
        if self._discovery is not None:
            topic = self._discovery.topic(device)
            self._wanted.pop(topic, None)
            self._pending.pop(topic, None)
            if topic in self._told:
                self._pending[topic] = None

    def heard(self, topic: str, payload: bytes, now: float, *, retained: bool) -> None:
        """Perhaps Home Assistant starts; what the broker kept of that is over."""
        starts = self._discovery is not None and topic == self._discovery.status and payload == BIRTH
        if starts and not retained and self._again_at is None:
            self._again_at = now + random.uniform(0, BIRTH_SPREAD_S)  # noqa: S311 - no secret

    def connected(self) -> None:
        """The broker may have lost what was said."""
        self._pending |= dict.fromkeys(self._wanted)

    def pump(self, now: float) -> None:
        """Say what there is room for."""
        self._bucket.refill(now)
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self.connected()
        if now >= self._keep_at:
            # Before it is said: what a crash leaves there is found again.
            self._keep(self._told | (self._pending.keys() & self._wanted.keys()), now)
        sayable = (topic for topic in self._pending if topic in self._told or topic not in self._wanted)
        due = list(islice(sayable, int(MESSAGES_AT_ONCE)))
        self._told -= {topic for topic in due if self._say(topic) and topic not in self._wanted}

    def _describe_federation(self, run: str | None = None) -> None:
        assert self._discovery is not None
        self._run = run or self._run
        payload = federation_payload(self._discovery, self._version, self._beat_s, self._run, self._metrics)
        self._want(self._discovery.topic(FEDERATION), payload)

    def _want(self, topic: str, payload: bytes) -> None:
        if self._wanted.get(topic) != payload:
            self._wanted[topic] = payload
            self._pending[topic] = None

    def _say(self, topic: str) -> bool:
        if not self._bucket.holds(1) or not self._send(topic, self._wanted.get(topic, b"")):
            return False
        self._bucket.take(1)
        del self._pending[topic]
        return True

    # -- what is there -----------------------------------------------------------------------------

    def _keep(self, told: set[str], now: float) -> None:
        self._told = told
        if told == self._kept:
            return
        self._keep_at = now + KEPT_EVERY_S
        try:
            if told:
                write_atomic(self._file, json.dumps(sorted(told), indent=1).encode())
            else:
                self._file.unlink(missing_ok=True)
            self._kept = frozenset(told)
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("cannot keep what Home Assistant was told: %s; rounds go on", error)


def _read(path: Path) -> set[str]:
    """Topics that an earlier process used; none where there is no such file, or one that is damaged."""
    try:
        topics = json.loads(path.read_bytes())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s; clear by hand what Home Assistant still shows", path, error)
        return set()
    return {topic for topic in topics if isinstance(topic, str)} if isinstance(topics, list) else set()
