"""The services that midge installs: what each is called, and where its parts lie."""

from dataclasses import dataclass
from importlib.resources import files

RESOURCES = files(__package__)
BACKOFF = "backoff.conf"
INSTALLER = "install.sh"


@dataclass(frozen=True)
class Service:
    """One service; a `folder` has versions of the program side by side, and `current`, which leads to one."""

    name: str
    settings: str
    """Where its settings are looked for."""
    folder: str = ""
    """Empty: the program is the system's own."""
    command: str = ""
    extras: str = ""
    """Of the distribution midge, as pip reads them."""
    packages: str = ""
    """Of Debian, that have to be there."""
    needed: str = ""
    """The file without which it cannot start; empty: NAME.toml in `settings`."""

    @property
    def unit(self) -> str:
        """The name of its unit file."""
        return f"midge-{self.name}.service"


SERVICES = {
    service.name: service
    for service in (
        Service("agent", "/etc/midge", "/opt/midge", "midge-agent"),
        Service(
            "aggregator", "/etc/midge/aggregator", "/opt/midge-aggregator", "midge-aggregator", "[aggregator]"
        ),
        Service("registrar", "/etc/midge/registrar", "/opt/midge-registrar", "midge", "[operator]"),
        Service(
            # procps has the kill of its unit's ExecReload, which smaller systems lack.
            "broker",
            "/etc/midge/broker",
            packages="mosquitto procps",
            needed="/etc/midge/broker/mosquitto.conf",
        ),
    )
}


def unit_text(service: Service) -> str:
    """The service's unit file."""
    return (RESOURCES / service.unit).read_text()
