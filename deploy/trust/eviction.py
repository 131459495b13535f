"""Ending a device's connection: MQTT gives a client id to whoever connected last.

A revocation list bars new connections only; Mosquitto 2.0 keeps those that stand. Where a name is the client
id, only the device's own name gets at its connection: so the loopback listener has an account of that name
for as long as this takes, with a password that nobody keeps.
https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html, 3.1.4
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from broker.accounts import new_password, update_accounts
from broker.advice import advised
from broker.events import Acknowledged, Connected, Disconnected, Refused, SessionEvent, TakenOver, Unreachable
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import PRESENCE, Topics
from deploy.command.control import UnansweredError
from deploy.trust.brokerfile import BrokerFile
from host.inbox import Inbox

ANSWER_S = 10.0
QUEUED = 100
Kind = TypeVar("Kind", bound=SessionEvent)


class Eviction:
    """A device's client id in our hands; see `evicted`."""

    def __init__(self, settings: BrokerSettings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        self._session = Session(settings, device, self._events.put, will=None, subscriptions=(), yields=True)

    def begin(self) -> None:
        """Take the device's place; raises UnansweredError."""
        self._session.start()
        self._await(Connected)

    def clear_presence(self, topics: Topics) -> bool:
        """Take what the device said of itself off the broker; False where the list of rights forbids it."""
        self._session.publish(topics.topic(PRESENCE, device=self._device), b"", retain=True)
        return self._await(Acknowledged).ok

    def lost(self, within_s: float) -> bool:
        """Whether the device took its place back within this time, so that it is still let in.

        Mosquitto 2.0 may close a connection without a word when it gives its place to another.
        """
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if isinstance(self._events.get(left), TakenOver | Disconnected):
                return True
        return False

    def end(self) -> None:
        """Leave the place empty."""
        self._session.stop()

    def _await(self, kind: type[Kind]) -> Kind:
        """Wait for an event; a refusal may be of a broker that has not read the new account yet."""
        why, deadline = "it does not answer", time.monotonic() + ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            event = self._events.get(left)
            if isinstance(event, kind):
                return event
            if isinstance(event, Refused | Unreachable | Disconnected | TakenOver):
                why = advised(event.reason)
        raise UnansweredError(f"{self._settings.url}: {why}")


@contextmanager
def evicted(broker: BrokerFile, device: str) -> Iterator[Eviction]:
    """Hold a device's place on a broker whose files are ours.

    Raises ConfigError without a loopback listener with accounts, UnansweredError, MidgeError, OSError.
    """
    listener = broker.loopback_listener()
    accounts, password = listener.file("password_file"), new_password()
    assert accounts is not None
    with tempfile.TemporaryDirectory(prefix="midge-evict-") as folder:
        secret = Path(folder) / "password"
        secret.write_text(password)
        settings = BrokerSettings(
            url=f"mqtt://127.0.0.1:{listener.port}",
            username=device,
            password_file=secret,
            client_id=device,
            reconnect_max_s=0.5,
        )
        eviction = Eviction(settings, device)
        try:
            update_accounts(accounts, {device: password})
            broker.reload()
            eviction.begin()
            yield eviction
        finally:
            eviction.end()
            update_accounts(accounts, {device: None})
            broker.reload()
