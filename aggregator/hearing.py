"""What the aggregator hears on the broker: messages decoded, and handed to whom they concern."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from aggregator.coordinator import events as on
from aggregator.exclusions import Exclusions
from aggregator.letters import Letters
from aggregator.uploads import Uploads
from broker import topics as tree
from broker.control import Request
from broker.events import Received
from broker.messages import Federation, Heartbeat, Offer, Report
from broker.monitor import AggregatorDocument
from broker.topics import Address, Branch, Topics
from broker.wire import decode
from host.errors import WireError

BRANCHES = (
    tree.FEDERATION,
    tree.MONITOR_AGGREGATOR,
    tree.PRESENCE,
    tree.HEARTBEAT,
    tree.OFFER,
    tree.REPORT,
    tree.UPDATE_CHUNK,
    tree.CONTROL_REQUEST,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hearers:
    """Whom messages concern that are no events of the coordinator."""

    uploads: Uploads
    exclusions: Exclusions
    request: Callable[[str, Request], None]
    federation: Callable[[Federation, bool], None]
    """Who aggregates, and whether the broker had kept that."""
    beat: Callable[[AggregatorDocument, bool], None]
    """The word of an aggregator, and whether the broker had kept it."""


class Hearing:
    """Hands messages on; what is unreadable is counted, and told once a sender."""

    def __init__(
        self, topics: Topics, tell: Callable[[on.Event], None], hearers: Hearers, letters: Letters
    ) -> None:
        self._topics = topics
        self._tell = tell
        self._hearers = hearers
        self._letters = letters
        self._complained: set[str] = set()
        self.unreadable = 0
        self._readers: dict[Branch, Callable[[Address, Received], None]] = {
            tree.FEDERATION: self._federation,
            tree.MONITOR_AGGREGATOR: self._beat,
            tree.PRESENCE: self._presence,
            tree.HEARTBEAT: self._heartbeat,
            tree.OFFER: self._offer,
            tree.REPORT: self._report,
            tree.UPDATE_CHUNK: self._chunk,
            tree.CONTROL_REQUEST: self._request,
        }

    def heard(self, message: Received) -> None:
        """Read a message from the broker."""
        address = self._topics.parse(message.topic)
        # Nobody says nothing: a topic was cleared, or somebody tries whether it may write.
        if address is None or address.branch not in self._readers or not message.payload:
            return
        device = address.fields.get("device", "")
        if device in self._hearers.exclusions:
            self._hearers.exclusions.heard(device, address.branch, message)
            return
        try:
            self._readers[address.branch](address, message)
        except WireError as error:
            self.unreadable += 1
            sender = address.fields.get("device") or address.fields.get("user", "")
            if sender not in self._complained:
                self._complained.add(sender)
                text = "dropped a message of %s on %s: %s (said once)"
                about = {"event": "unreadable", **address.fields}
                log.warning(text, sender, message.topic, error, extra=about)

    def _federation(self, _: Address, message: Received) -> None:
        self._hearers.federation(decode(Federation, message.payload), message.retained)

    def _beat(self, _: Address, message: Received) -> None:
        try:
            document = AggregatorDocument.model_validate_json(message.payload)
        except ValidationError as error:
            raise WireError(f"no document of an aggregator: {error}") from error
        self._hearers.beat(document, message.retained)

    def _presence(self, address: Address, message: Received) -> None:
        device = address.fields["device"]
        presence = self._letters.presence(message.topic, device, message.payload)
        if presence.online and not message.retained:
            self._hearers.uploads.reconnected(device)
        self._tell(on.DevicePresence(device, presence, message.retained))

    def _heartbeat(self, address: Address, message: Received) -> None:
        self._tell(on.DeviceHeartbeat(address.fields["device"], decode(Heartbeat, message.payload)))

    def _offer(self, address: Address, message: Received) -> None:
        device = address.fields["device"]
        offer = self._letters.read(Offer, message.topic, device, message.payload)
        self._tell(on.UpdateOffered(device, offer))

    def _report(self, address: Address, message: Received) -> None:
        device = address.fields["device"]
        report = self._letters.read(Report, message.topic, device, message.payload)
        self._tell(on.DeviceReport(device, report))

    def _chunk(self, address: Address, message: Received) -> None:
        fields = address.fields
        self._hearers.uploads.chunk(
            fields["device"], fields["transfer"], int(fields["index"]), message.payload, time.monotonic()
        )

    def _request(self, address: Address, message: Received) -> None:
        self._hearers.request(address.fields["user"], decode(Request, message.payload))
