"""A local fleet's folder: settings files, state and logs, as one would set it all up by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from aggregator.records import JSON
from aggregator.settings import SIGNING_KEY, TaskSettings
from aggregator.toml import to_toml
from broker.settings import BrokerSettings
from broker.signing import Signer
from edge_agent.data.settings import DataSettings
from host.errors import ConfigError


class FleetFolder:
    """Where things lie; raises ConfigError when something is there already."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise ConfigError(f"{root} is there and not empty: name a new folder, or remove it first")
        self.logs = self.root / "logs"
        self.broker = self.root / "broker"
        self.aggregator = self.root / "aggregator"

    def write_aggregator(
        self, broker: BrokerSettings, tasks: Mapping[str, TaskSettings], heartbeat_s: float
    ) -> Path:
        """Write the aggregator's settings file."""
        return self._write(
            "aggregator.toml",
            {
                "folder": str(self.aggregator),
                "heartbeat_s": heartbeat_s,
                "broker": _table(broker),
                "tasks": {name: _table(task) for name, task in tasks.items()},
            },
        )

    def write_agent(self, broker: BrokerSettings, device: str, data: DataSettings) -> Path:
        """Write a device's settings file, which pins the aggregator's key; the first one makes it."""
        return self._write(
            f"agent-{device}.toml",
            {
                "device": device,
                "aggregator_key": Signer(self.aggregator / SIGNING_KEY).public_key,
                "state_folder": str(self.root / "devices" / device),
                "broker": _table(broker),
                "data": {"kind": data.kind, **_table(data)},
            },
        )

    def run(self, run: str) -> Path:
        """A run's folder, with its model and history."""
        return self.aggregator / "runs" / run

    def _write(self, name: str, settings: dict[str, JSON]) -> Path:
        path = self.root / name
        path.write_text(to_toml(settings), encoding="utf-8")
        return path


def _table(settings: BaseModel) -> dict[str, JSON]:
    return cast("dict[str, JSON]", settings.model_dump(mode="json", exclude_defaults=True))
