"""The agent's settings file."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from broker.names import ID_PATTERN, RESERVED_IDS, PublicKey
from broker.settings import BrokerSettings, read_endpoint
from edge_agent.data.settings import DataSettings
from edge_agent.hours import Span
from host.logs import ABOUT_FORMAT, LogFormat

DEVICE_KEY = "device.key"
DEFAULT_STATE_FOLDER = Path("/var/lib/midge-agent")
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class EnrolmentSettings(BaseModel):
    """Where a device without a certificate gets one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="the broker's listener for tokens: mqtts://host:8884")
    token_file: Path = Field(description="the token; it is used once, then shredded")

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        if not read_endpoint(url).tls:
            raise ValueError(f"enrolment url {url!r} is not encrypted: use mqtts:// or wss://")
        return url


class AgentSettings(BaseModel):
    """What `midge-agent run --config FILE` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(pattern=ID_PATTERN, description="this device's id, its own in the federation")
    broker: BrokerSettings = Field(description="how to reach the broker")
    enrolment: EnrolmentSettings | None = Field(
        default=None, description="how to get a certificate by token; None: broker names one, if it needs one"
    )
    aggregator_key: PublicKey | None = Field(
        default=None,
        description="public key without whose signature no round is obeyed; None: obey whoever announces one",
    )
    sealed: bool = Field(
        default=False,
        description="obey no round whose updates are not sealed, and say nothing of the data unsealed; "
        "without it, do as the announcements ask",
    )
    data: DataSettings = Field(description="the examples that this device trains on")
    state_folder: Path = Field(default=DEFAULT_STATE_FOLDER, description="survives restarts; one an agent")
    tags: tuple[Tag, ...] = Field(default=(), max_length=32, description="words to select devices by")
    nice: int = Field(default=10, ge=0, le=19, description="how far training gives way to other processes")
    keep_trainer_warm: bool = Field(default=True, description="keep the trainer loaded between rounds")
    trainer_idle_s: float = Field(default=600, gt=0, description="how long a warm trainer may idle")
    trainer_memory_bytes: int | None = Field(
        default=None,
        ge=64 << 20,
        description="most that the trainer may allocate; None: three quarters of the machine's memory",
    )
    trainer_silence_s: float = Field(
        default=600,
        gt=0,
        description="how long the trainer may take to load, for one step, or to evaluate a thousand examples",
    )
    hours: tuple[Span, ...] = Field(
        default=(), max_length=16, description="when to take part, such as 22:00-06:00; without any: always"
    )
    max_temperature_c: float | None = Field(
        default=None, gt=0, le=150, description="of the hottest zone; None: however hot"
    )
    decline_throttled: bool = Field(
        default=True, description="take no part while a Raspberry Pi is throttled or its voltage is low"
    )
    min_battery: float = Field(default=0.2, ge=0, le=1, description="charge left, while nothing charges it")
    min_free_memory_bytes: int = Field(
        default=64 << 20, ge=0, description="memory that would be free without the trainer"
    )
    log_format: LogFormat = Field(default="text", description=ABOUT_FORMAT)

    @property
    def device_key(self) -> Path:
        """The private key that signs what is sealed."""
        return self.state_folder / DEVICE_KEY

    @field_validator("device")
    @classmethod
    def _not_reserved(cls, device: str) -> str:
        if device in RESERVED_IDS:
            raise ValueError(f"{device!r} is the name of a role, choose another id")
        return device
