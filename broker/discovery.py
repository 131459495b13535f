"""Where Home Assistant is told of a federation: beside the federation's own topics, and only if that is set.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

import re
from dataclasses import dataclass

from broker.names import ID_PATTERN, RESERVED_IDS
from broker.topics import Topics

PREFIX, STATUS = "homeassistant", "homeassistant/status"
# The federation itself; no device has this name.
FEDERATION = "aggregator"
assert FEDERATION in RESERVED_IDS


@dataclass(frozen=True)
class Discovery:
    """The topics that describe a federation and its devices."""

    topics: Topics
    prefix: str = PREFIX
    status: str = STATUS
    """Where Home Assistant says that it starts."""

    @property
    def node(self) -> str:
        """The federation among all that announces itself there."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.topics.root)

    def topic(self, name: str) -> str:
        """Where a device is described; `FEDERATION` is the federation.

        Home Assistant knows nodes between `device` and the name, by which a right could end at this
        federation; but up to 2025.2 and longer it takes back no device that has one.
        """
        return f"{self.prefix}/device/{self.node}_{name}/config"

    @property
    def filter(self) -> str:
        """All of them, and those of others: a level cannot be matched in part."""
        return f"{self.prefix}/device/+/config"

    def name_of(self, topic: str) -> str | None:
        """What a topic describes; None when it is none of these."""
        before, _, after = self.topic("+").partition("+")
        name = topic.removeprefix(before).removesuffix(after)
        return name if self.topic(name) == topic and re.match(ID_PATTERN, name) else None
