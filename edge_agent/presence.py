"""A device's own presence topic: what to make of what stands there."""

from collections import deque
from enum import Enum, auto

from broker.messages import Presence

REMEMBERED_CONNECTIONS = 16


class Verdict(Enum):
    """What to do about a presence that was seen."""

    FINE = auto()
    OVERWRITTEN = auto()
    DISPLACED = auto()


class OwnPresence:
    """Keeps our birth standing, and notices a second machine with our id.

    `birth` is what a birth says of this device; its connection id is replaced by that of each connection.
    """

    def __init__(self, birth: Presence) -> None:
        self._birth = birth
        self._former: deque[str] = deque(maxlen=REMEMBERED_CONNECTIONS)
        self._echoed = False
        self.connection: str | None = None

    def connected(self, connection: str) -> None:
        """Begin a connection; its birth is still to be said."""
        self.disconnected()
        self.connection, self._echoed = connection, False

    def disconnected(self) -> None:
        """End the connection, and remember it: its will may come late."""
        if self.connection is not None:
            self._former.append(self.connection)
        self.connection = None

    def birth(self) -> Presence:
        """What to say of this connection."""
        return self._birth.model_copy(update={"connection": self.connection})

    def seen(self, presence: Presence, *, retained: bool) -> Verdict:
        """Judge what the broker delivered.

        A death, or a birth of a former connection of ours, lies over our birth. A birth of a stranger that
        arrives live after our own came back is another machine; before that, it is the older one, which will
        see ours and keep quiet: so exactly one of two goes on.
        """
        if presence.connection == self.connection and presence.online:
            self._echoed = True
            return Verdict.FINE
        if not presence.online or presence.connection in self._former:
            return Verdict.OVERWRITTEN
        return Verdict.DISPLACED if self._echoed and not retained else Verdict.FINE
