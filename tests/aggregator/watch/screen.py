"""A watch over a coordinator, and what stands on the broker below `monitor/`."""

import json
from pathlib import Path
from typing import Any

from aggregator.coordinator import events as on
from aggregator.records import DeviceExcluded
from aggregator.watch.past import Past
from aggregator.watch.watch import Watch
from broker.happenings import EventDocument
from broker.topics import Topics
from tests.aggregator.coordinator.world import RUN, World

RATE_S = 0.5
RUN_TOPIC, ROUND_TOPIC = f"runs/{RUN}", f"runs/{RUN}/rounds/1"


class Screen:
    """A watch over a coordinator, and what stands on the broker below `monitor/`."""

    def __init__(self, runs: Path = Path("nowhere"), *, discreet: bool = False, **settings: object) -> None:
        self.world = World(**settings)
        self.runs = runs
        self.discreet = discreet
        self.told: list[EventDocument] = []
        self.accepts = True
        self.shown: dict[str, dict[str, Any]] = {}
        self.written: list[str] = []
        self.dropped = 0
        self.begin()

    def begin(self) -> None:
        topics = Topics("lab")
        self.root = f"{topics.root}/monitor/"
        self.watch = Watch(
            self.world.core,
            Past(self.world.ledger, self.runs),
            topics,
            self.publish,
            session=7,
            dropped=lambda: self.dropped,
            rate_s=RATE_S,
            discreet=self.discreet,
        )
        self.world.ledger.listener = self.watch.note

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        if not self.accepts:
            return False
        name = topic.removeprefix(self.root)
        if not retain:
            self.told.append(EventDocument.model_validate_json(payload))
            return True
        self.written.append(name)
        if payload:
            self.shown[name] = json.loads(payload)
        else:
            self.shown.pop(name, None)
        return True

    def look(self, after_s: float = RATE_S) -> list[str]:
        """Look once, this much later; what was written."""
        self.world.now += after_s
        self.written.clear()
        self.watch.look(self.world.now)
        return sorted(self.written)

    def exclude(self, device: str) -> None:
        """As the service does when an operator says so."""
        self.world.ledger.commit([DeviceExcluded(device, "stolen")], None)
        self.world.tell(on.ExcludeDevice(device, "stolen"))

    def complete_round(self) -> None:
        world = self.world
        world.upload("a")
        world.aggregated()
        world.published()
        world.report("a", {"loss": (1.0, 4.0)})
        world.evaluated({"loss": (1.0, 2.0)})
