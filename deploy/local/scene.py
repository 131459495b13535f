"""What the monitor topics told so far of a fleet and its newest run."""

from pydantic import ValidationError

from broker.monitor import AggregatorDocument, DeviceDocument, RoundDocument, RunDocument
from broker.topics import MONITOR_AGGREGATOR, MONITOR_DEVICE, MONITOR_ROUND, MONITOR_RUN, Topics

WATCHED = (MONITOR_AGGREGATOR, MONITOR_DEVICE, MONITOR_ROUND, MONITOR_RUN)


class Scene:
    """The newest document of each kind."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.aggregator_online = False
        self.devices: dict[str, DeviceDocument] = {}
        self.run: RunDocument | None = None
        self.rounds: dict[tuple[str, int], RoundDocument] = {}

    def take(self, topic: str, payload: bytes) -> None:
        """Take over a document; one that is deleted or cannot be read changes nothing."""
        address = self._topics.parse(topic)
        if address is None or not payload:
            return
        try:
            if address.branch is MONITOR_AGGREGATOR:
                self.aggregator_online = AggregatorDocument.model_validate_json(payload).online
            elif address.branch is MONITOR_DEVICE:
                device = DeviceDocument.model_validate_json(payload)
                self.devices[device.device] = device
            elif address.branch is MONITOR_RUN:
                self.run = RunDocument.model_validate_json(payload)
            elif address.branch is MONITOR_ROUND:
                round_ = RoundDocument.model_validate_json(payload)
                self.rounds[round_.run, round_.round] = round_
        except ValidationError:
            return

    @property
    def live(self) -> int:
        """How many devices are there."""
        return sum(device.live for device in self.devices.values())

    @property
    def closed(self) -> list[RoundDocument]:
        """The newest run's rounds that are over, in their order."""
        run = self.run.run if self.run is not None else None
        return [
            document for (of, _), document in sorted(self.rounds.items()) if document.outcome and of == run
        ]

    @property
    def bytes_up(self) -> int:
        """Bytes of updates that all devices sent."""
        return sum(device.bytes_up for device in self.devices.values())

    @property
    def bytes_down(self) -> int:
        """Bytes of models and programs that all devices received."""
        return sum(device.bytes_down for device in self.devices.values())
