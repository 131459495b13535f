"""The registrar's settings file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from broker.settings import BrokerSettings
from broker.trust import MAX_WITHIN_S
from host.logs import ABOUT_FORMAT, LogFormat

TOKEN_REGISTER = "tokens.sqlite"  # noqa: S105 - the name of a file


class RegistrarSettings(BaseModel):
    """Everything in registrar.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: BrokerSettings = Field(description="how to reach the broker, as the registrar's account")
    authority: Path = Field(description="folder of the intermediate key and of the register of certificates")
    tokens: Path = Field(description="the register of tokens, SQLite; midge enroll writes to it")
    certificate_days: float = Field(
        default=365.0, gt=0, le=3650, description="life of a device's certificate; renewed after two thirds"
    )
    renew_within_s: float = Field(
        default=86_400.0,
        ge=0,
        le=MAX_WITHIN_S,
        description="when the authority changes, devices renew within so long, at random",
    )
    log_format: LogFormat = Field(default="text", description=ABOUT_FORMAT)
