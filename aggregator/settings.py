"""The aggregator's settings file."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from aggregator.run_settings import read_run_settings
from broker.messages import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, SettingValue
from broker.names import ID_PATTERN, DeviceId, PublicKey
from broker.settings import BrokerSettings
from host.errors import ConfigError
from host.logs import ABOUT_FORMAT, LogFormat

SIGNING_KEY = "signing.key"
SEALING_KEY = "sealing.key"
TaskName = Annotated[str, Field(pattern=ID_PATTERN)]


class TaskSettings(BaseModel):
    """A task that operators may start by its name: code never travels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="the task's Python file")
    settings: dict[str, SettingValue] = Field(default_factory=dict, description="its runs' defaults")

    @field_validator("settings")
    @classmethod
    def _known(cls, settings: dict[str, SettingValue]) -> dict[str, SettingValue]:
        try:
            read_run_settings(settings)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return settings


class AggregatorSettings(BaseModel):
    """Everything in aggregator.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(description="ledger, spool, runs and the signing key live here")
    broker: BrokerSettings = Field(description="how to reach the broker")
    tasks: dict[TaskName, TaskSettings] = Field(
        default_factory=dict, max_length=1000, description="what operators may start, by name"
    )
    heartbeat_s: float = Field(
        default=5.0, ge=0.1, le=3600, description="the fleet's rhythm; about three missed: lost"
    )
    chunk_bytes: int = Field(
        default=96 << 10,
        ge=MIN_CHUNK_BYTES,
        le=MAX_CHUNK_BYTES,
        description="in what pieces models and updates travel",
    )
    uploads_at_a_time: int = Field(
        default=4, ge=1, le=256, description="devices that upload at once; the others wait"
    )
    upload_window: int = Field(default=16, ge=1, le=64, description="chunks granted to one device at a time")
    upload_lease_s: float = Field(
        default=20.0, gt=0, le=3600, description="silence after which chunks are asked again"
    )
    spool_limit_bytes: int = Field(
        default=20 << 30, ge=1 << 20, description="most bytes of updates that are kept at once"
    )
    blob_expiry_s: int = Field(
        default=7 * 86_400, ge=60, description="when the broker forgets blobs on its own"
    )
    sealed: bool | None = Field(
        default=None,
        description="devices seal updates and what tells of their data to our key; None: unless the broker "
        "is on the loopback interface. Where the broker is yours alone, false spares the devices the work",
    )
    device_keys: dict[DeviceId, PublicKey] = Field(
        default_factory=dict,
        max_length=10_000,
        description="by what key a device is known; one that is not named here, by the first that it used",
    )
    keep_rounds: int = Field(default=100, ge=1, description="rounds of a run whose theta and model are kept")
    log_format: LogFormat = Field(default="text", description=ABOUT_FORMAT)

    @property
    def signing_key(self) -> Path:
        """The private key that signs announcements."""
        return self.folder / SIGNING_KEY

    @property
    def sealing_key(self) -> Path:
        """The private key that opens what devices seal."""
        return self.folder / SEALING_KEY

    @property
    def seals(self) -> bool:
        """Whether devices are to seal what they send."""
        return not self.broker.endpoint.is_loopback if self.sealed is None else self.sealed
