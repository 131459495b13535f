"""Whether what a viewer shows can be believed: the connection, the aggregator, how old its word is."""

from enum import StrEnum
from typing import NamedTuple

from broker.happenings import Severity
from broker.topics import MONITOR_AGGREGATOR, MONITOR_FEDERATION
from deploy.viewing.feed import Feed
from deploy.viewing.words import duration

# What the broker keeps comes right after the connection.
FIRST_WORD_S = 2.0


class Believed(StrEnum):
    """What stands between a viewer and the truth."""

    CURRENT = "current"
    CONNECTING = "connecting"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    UNHEARD = "unheard"
    UNREADABLE = "unreadable"
    OFFLINE = "offline"
    SILENT = "silent"
    OVER = "over"


_AS_IT_SHOULD_BE = (Believed.CONNECTING, Believed.OVER)


class Standing(NamedTuple):
    """A line for people, and how bad it is."""

    believed: Believed
    text: str

    @property
    def severity(self) -> Severity:
        """Whether somebody should look."""
        if self.believed is Believed.CURRENT:
            return Severity.INFO
        return Severity.WARNING if self.believed in _AS_IT_SHOULD_BE else Severity.ERROR


def standing(feed: Feed, now: float) -> Standing:
    """Judge what a feed shows at `now` (monotonic)."""
    if feed.over:
        return Standing(Believed.OVER, "the demo is over; this is what it said last")
    return _of_connection(feed) or _of_aggregator(feed, now)


def _of_connection(feed: Feed) -> Standing | None:
    url = feed.settings.url
    if feed.refused or (feed.connected and feed.trouble):
        return Standing(Believed.REFUSED, f"{url}: {feed.trouble}")
    if feed.trouble:
        return Standing(Believed.UNREACHABLE, f"no connection to {url}, trying again: {feed.trouble}")
    if not feed.connected:
        return Standing(Believed.CONNECTING, f"connecting to {url}")
    return None


def _of_aggregator(feed: Feed, now: float) -> Standing:
    view = feed.view
    if view.is_foreign:
        return Standing(
            Believed.UNREADABLE,
            f"what is said of federation {feed.settings.federation!r} cannot be read: "
            "its aggregator is of another version; watch it with a midge of that version",
        )
    if view.aggregator is None:
        return _unheard(feed, now)
    if not view.aggregator.online:
        return Standing(Believed.OFFLINE, "the aggregator is offline; this is what it said last")
    silences = (view.silent_s(branch, now) for branch in (MONITOR_AGGREGATOR, MONITOR_FEDERATION))
    silent_s = max((one for one in silences if one is not None), default=None)
    if silent_s is not None:
        return Standing(
            Believed.SILENT, f"the aggregator is silent for {duration(silent_s)}; this is what it said last"
        )
    return Standing(Believed.CURRENT, "")


def _unheard(feed: Feed, now: float) -> Standing:
    if feed.demo:
        return Standing(Believed.CONNECTING, "the demo gets ready: its rounds have not begun")
    if now - feed.connected_at < FIRST_WORD_S:
        return Standing(Believed.CONNECTING, f"connected to {feed.settings.url}, waiting for the first word")
    return Standing(
        Believed.UNHEARD,
        f"nothing is said of federation {feed.settings.federation!r}: it has no aggregator yet, "
        "or this account may not read its monitor/#",
    )
