"""Our claim to be the one aggregator of a federation: the beat, and what follows when another one speaks."""

import logging
import time
from collections.abc import Callable

from broker.messages import Federation
from broker.monitor import AggregatorDocument

log = logging.getLogger(__name__)


class Claim:
    """Of two aggregators the one with the higher session serves; `yield_to` it, or `insist`."""

    def __init__(
        self,
        session: int,
        key: str,
        beat: Callable[[], None],
        every_s: float,
        yield_to: Callable[[str], None],
        insist: Callable[[], None],
    ) -> None:
        self._beat = beat
        self._every_s = every_s
        # Two that began in the same second are told apart by their keys.
        self._ours = (session, key)
        self._yield_to = yield_to
        self._insist = insist
        self._due = 0.0

    def renew(self, now: float) -> None:
        """Beat, if it is time to."""
        if now >= self._due:
            self._say(now)

    def heard_federation(self, other: Federation, retained: bool) -> None:  # noqa: FBT001 - as it was heard
        """Somebody says that it aggregates: ourselves, one before us, or one after us."""
        theirs = (other.session, other.aggregator_key)
        if theirs > self._ours:
            self._yield_to(f"its session is {other.session}, ours {self._ours[0]}")
        elif theirs < self._ours and not retained:
            log.warning("another aggregator spoke, with session %d: saying everything again", other.session)
            self._insist()

    def heard_beat(self, document: AggregatorDocument, retained: bool) -> None:  # noqa: FBT001 - as it was heard
        """Correct whoever says that nobody lives: it may be a late will of our own."""
        if not document.online and not retained:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        self._beat()
        self._due = now + self._every_s
