"""One feed for all browsers, looked at by the server's own loop."""

import asyncio
import time

from broker.monitor import RoundDocument
from broker.topics import Topics
from deploy.dashboard.notices import Notice, notices
from deploy.viewing.feed import Feed
from deploy.viewing.standing import standing
from deploy.viewing.view import View

LOOK_EVERY_S = 0.2


class Watcher:
    """Keeps the view up to date, and says what pages need beside it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._round: tuple[RoundDocument, float] | None = None

    @property
    def view(self) -> View:
        """What the monitor topics told."""
        return self._feed.view

    @property
    def topics(self) -> Topics:
        """Where it is told."""
        return self._feed.settings.topics

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._feed.connected

    async def watch(self) -> None:
        """Look at what arrives, until cancelled."""
        while True:
            self._feed.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def notices(self) -> list[Notice]:
        """What somebody should know first."""
        return notices(self.view, standing(self._feed, time.monotonic()), self._feed.missed)

    def elapsed_s(self, document: RoundDocument) -> float:
        """For how long the live round's document has been here: so much its clocks have gone on."""
        now = time.monotonic()
        if self._round is None or self._round[0] is not document:
            self._round = document, now
        return now - self._round[1]
