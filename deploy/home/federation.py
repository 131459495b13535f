"""What a home's federation.toml says."""

from ipaddress import IPv6Address, ip_address
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from broker.names import ID_PATTERN
from broker.settings import PREFIX_PATTERN

Port = Annotated[int, Field(ge=1, le=65_535)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,253}$")]


class Ports(BaseModel):
    """Where the broker listens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: Port = Field(default=8883, description="TLS, for clients with a certificate of the federation")
    enrolment: Port = Field(default=8884, description="TLS, for devices that have a token")
    viewers: Port = Field(default=8885, description="TLS, for accounts that read what is to be watched")
    local: Port = Field(default=1883, description="this machine only, for the services' own accounts")


class FederationSettings(BaseModel):
    """Everything in federation.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        default="default", pattern=ID_PATTERN, description="the federation's name, in every topic"
    )
    prefix: str = Field(
        default="midge", pattern=PREFIX_PATTERN, max_length=128, description="first levels of every topic"
    )
    hosts: tuple[Host, ...] = Field(
        min_length=1,
        max_length=32,
        description="host names and addresses that the broker is reached by; devices use the first",
    )
    ports: Ports = Field(default=Ports(), description="where the broker listens")

    def url(self, port: int) -> str:
        """How clients on other machines reach a listener of the broker."""
        return f"mqtts://{_bracketed(self.hosts[0])}:{port}"


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        return host
