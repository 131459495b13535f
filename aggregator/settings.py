"""The aggregator's settings file."""

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aggregator.run_settings import read_run_settings
from broker.control import SettingValue
from broker.discovery import PREFIX, STATUS, Discovery
from broker.messages import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES
from broker.names import ID_PATTERN, DeviceId, PublicKey
from broker.settings import PREFIX_PATTERN, BrokerSettings, is_loopback
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
    home_assistant: bool = Field(
        default=False, description="describe federation and devices to Home Assistant, by MQTT discovery"
    )
    home_assistant_prefix: str = Field(
        default=PREFIX, pattern=PREFIX_PATTERN, max_length=128, description="its discovery prefix"
    )
    home_assistant_status: str = Field(
        default=STATUS,
        pattern=PREFIX_PATTERN,
        max_length=128,
        description="its birth topic: once it says `online` there, all is described again",
    )
    metrics_listen: str | None = Field(
        default=None,
        description="serve Prometheus' /metrics there, such as 127.0.0.1:9109; None: nothing listens",
    )
    metrics_devices: int = Field(
        default=200, ge=0, le=10_000, description="up to so many devices, each has series of its own"
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=2048,
        description="tell it, by POST, of a run that ends or stands still, and who needs care",
    )
    webhook_token_file: Path | None = Field(
        default=None, description="a bearer token to be sent with each notice"
    )
    webhook_key_file: Path | None = Field(
        default=None, description="a key that signs each notice: HMAC-SHA256, in `X-Midge-Signature`"
    )
    webhook_lost_s: float = Field(
        default=3600.0, gt=0, description="a device that is lost for so long needs care"
    )
    webhook_plain: bool = Field(
        default=False, description="allow http:// to other machines: whoever is between reads all of it"
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

    @field_validator("metrics_listen")
    @classmethod
    def _listenable(cls, listen: str | None) -> str | None:
        if listen is not None:
            _read_address(listen)
        return listen

    @model_validator(mode="after")
    def _safe_webhook(self) -> "AggregatorSettings":
        if self.webhook_url is None:
            if self.webhook_token_file is not None or self.webhook_key_file is not None:
                raise ValueError("webhook_url is missing, but there is a secret for it")
            return self
        url = _read_url(self.webhook_url)
        if url.username is not None or url.password is not None:
            raise ValueError("webhook_url holds a user or a password: use webhook_token_file")
        if url.scheme == "http" and not (self.webhook_plain or is_loopback(url.hostname or "")):
            raise ValueError("webhook_url is http:// to another machine: use https://, or set webhook_plain")
        return self

    @property
    def discovery(self) -> Discovery | None:
        """Where Home Assistant is told of the federation; None: nowhere."""
        if not self.home_assistant:
            return None
        return Discovery(self.broker.topics, self.home_assistant_prefix, self.home_assistant_status)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Where to serve metrics; raises ValueError where they are not to be served."""
        return _read_address(self.metrics_listen or "")


def _read_url(text: str) -> SplitResult:
    """Take a URL apart; an error does not repeat it, for its path can be a secret."""
    try:
        url = urlsplit(text)
        good = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("webhook_url: write https://HOST/PATH") from None
    return url


def _read_address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 16:
        raise ValueError("write an address and a port, such as 127.0.0.1:9109 or [::1]:9109")
    return address, number
