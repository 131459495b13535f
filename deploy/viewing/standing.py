"""Whether what a viewer shows can be believed: the connection, the aggregator, how old its word is."""

from enum import StrEnum
from typing import NamedTuple

from broker.happenings import Severity
from broker.topics import MONITOR_AGGREGATOR, MONITOR_FEDERATION
from deploy.viewing.feed import Feed
from deploy.viewing.view import View
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


class Standing(NamedTuple):
    """A line for people, and how bad it is."""

    believed: Believed
    text: str

    @property
    def severity(self) -> Severity:
        """Whether somebody should look."""
        if self.believed is Believed.CURRENT:
            return Severity.INFO
        return Severity.WARNING if self.believed is Believed.CONNECTING else Severity.ERROR


def standing(feed: Feed, now: float) -> Standing:
    """Judge what a feed shows at `now` (monotonic)."""
    url = feed.settings.url
    if feed.refused:
        return Standing(Believed.REFUSED, f"{url}: {feed.trouble}")
    if feed.connected and feed.trouble:
        return Standing(Believed.REFUSED, f"{url}: {feed.trouble}")
    if feed.trouble:
        return Standing(Believed.UNREACHABLE, f"no connection to {url}: {feed.trouble}; trying again")
    if not feed.connected:
        return Standing(Believed.CONNECTING, f"connecting to {url}")
    unheard = feed.view.aggregator is None and not feed.view.is_foreign
    if unheard and now - feed.connected_at < FIRST_WORD_S:
        return Standing(Believed.CONNECTING, f"connected to {url}, waiting for the first word")
    return _of_aggregator(feed.view, feed.settings.federation, now)


def _of_aggregator(view: View, federation: str, now: float) -> Standing:
    if view.is_foreign:
        return Standing(
            Believed.UNREADABLE,
            f"what is said of federation {federation!r} cannot be read: "
            "its aggregator is of another version; watch it with a midge of that version",
        )
    if view.aggregator is None:
        return Standing(
            Believed.UNHEARD,
            f"nothing is said of federation {federation!r}: it has no aggregator yet, "
            "or this account may not read its monitor/#",
        )
    if not view.aggregator.online:
        return Standing(Believed.OFFLINE, "the aggregator is offline; this is what it said last")
    silences = (view.silent_s(branch, now) for branch in (MONITOR_AGGREGATOR, MONITOR_FEDERATION))
    silent_s = max((one for one in silences if one is not None), default=None)
    if silent_s is not None:
        return Standing(
            Believed.SILENT, f"the aggregator is silent for {duration(silent_s)}; this is what it said last"
        )
    return Standing(Believed.CURRENT, "")
