"""What the device says: as it is, or sealed to the aggregator's key once that was announced."""

import logging
from pathlib import Path

from broker import wire
from broker.envelope import DeviceKey
from broker.messages import Message, Presence
from broker.session import Session
from broker.topics import OFFER, PRESENCE, REPORT, Branch, Topics
from host.errors import SealError

# What tells something about the data. Heartbeats and deaths stay readable: they prove life.
ENCLOSED = (OFFER, REPORT)

log = logging.getLogger(__name__)


class Voice:
    """Encodes messages; with `sealed`, what tells of the data is not said before a key is known.

    The device's own key is read, or made, when something is first sealed.
    """

    def __init__(
        self, session: Session, topics: Topics, device: str, key_path: Path, *, sealed: bool
    ) -> None:
        self._session = session
        self._topics = topics
        self._device = device
        self._path = key_path
        self._sealed = sealed
        self._key: DeviceKey | None = None

    def say(self, branch: Branch, message: Message, sealing_key: str | None) -> None:
        """Publish, when connected; the lifecycle says again what matters. Raises as `payload` does."""
        topic = self._topics.topic(branch, device=self._device)
        payload = self.payload(branch, message, sealing_key)
        if payload is None:
            log.debug("not said before there is a key to seal it to: %s", topic)
        elif self._session.publish(topic, payload, qos=branch.qos, retain=branch.retained) is None:
            log.debug("not sent, not connected or too much is waiting: %s", topic)
        else:
            log.debug("sent %s: %s", topic, message)

    def payload(self, branch: Branch, message: Message, sealing_key: str | None) -> bytes | None:
        """What to publish on this branch; None when it must not be said now.

        Raises ConfigError or StorageError where the device's key cannot be read or made.
        """
        if sealing_key is None and not self._sealed:
            return wire.encode(message)
        if isinstance(message, Presence):
            return self._birth(message, sealing_key)
        if branch in ENCLOSED:
            return self._enclosed(branch, message, sealing_key)
        return wire.encode(message)

    def _birth(self, birth: Presence, sealing_key: str | None) -> bytes:
        """Who is connected stays readable: the device itself looks after its presence."""
        bare = Presence(online=birth.online, connection=birth.connection)
        return wire.encode(bare.model_copy(update={"sealed": self._enclosed(PRESENCE, birth, sealing_key)}))

    def _enclosed(self, branch: Branch, message: Message, sealing_key: str | None) -> bytes | None:
        if sealing_key is None:
            return None
        if self._key is None:
            self._key = DeviceKey(self._path)
        try:
            return self._key.enclose(self._topics.topic(branch, device=self._device), message, sealing_key)
        except SealError as error:
            log.warning("nothing is said on %s: the aggregator's key: %s", branch.pattern, error)
            return None
