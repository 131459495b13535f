"""The accounts to try, from the settings files of the services and of people."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aggregator.ledger import in_use
from aggregator.settings import AggregatorSettings
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.options import OperatorSettings
from edge_agent.settings import AgentSettings
from edge_agent.store import is_in_use
from host.errors import ConfigError
from host.settings import load_settings


@dataclass(frozen=True, slots=True)
class Patient:
    """An account: its role, its name in topics, and how it reaches the broker."""

    role: Role
    name: str
    settings: BrokerSettings


@dataclass(frozen=True, slots=True)
class Files:
    """Which settings file was given for which role."""

    aggregator: Path | None = None
    devices: tuple[Path, ...] = ()
    operator: Path | None = None
    monitor: Path | None = None


def read_patients(files: Files) -> list[Patient]:
    """The accounts in these files, all of one federation.

    Raises ConfigError for a file that cannot be used, for a service that runs here, since some brokers would
    end its connection for ours, and when there is none or they are of several federations.
    """
    found = [*_services(files), *_people(files)]
    if not found:
        raise ConfigError(
            "which accounts? give --aggregator, --device, --operator or --monitor a settings file"
        )
    # On the broker's own machine services reach it by loopback, and devices by its name.
    hosts = {one.settings.endpoint.host for one in found if not one.settings.endpoint.is_loopback}
    if len(hosts) > 1 or len({one.settings.topics for one in found}) > 1:
        places = {f"{one.settings.topics.root} on {one.settings.url}" for one in found}
        raise ConfigError(f"the files are of several brokers or federations: {', '.join(sorted(places))}")
    return found


def chunk_bytes_of(files: Files) -> int:
    """In what pieces models travel here, as far as is known."""
    default: int = AggregatorSettings.model_fields["chunk_bytes"].default
    return default if files.aggregator is None else _read_aggregator(files.aggregator).chunk_bytes


def _services(files: Files) -> Iterator[Patient]:
    if files.aggregator is not None:
        settings = _read_aggregator(files.aggregator)
        ledger = settings.folder / "ledger.sqlite"
        _refuse_running([ledger] if ledger.exists() and in_use(ledger) else [], files.aggregator)
        yield Patient(Role.AGGREGATOR, Role.AGGREGATOR, settings.broker)
    for file in files.devices:
        agent = load_settings(AgentSettings, file, {}, {})
        _refuse_running([agent.state_folder] if is_in_use(agent.state_folder) else [], file)
        yield Patient(Role.DEVICE, agent.device, agent.broker)


def _people(files: Files) -> Iterator[Patient]:
    for role, file in ((Role.OPERATOR, files.operator), (Role.MONITOR, files.monitor)):
        if file is not None:
            settings = load_settings(OperatorSettings, file, {}, {}).broker
            yield Patient(role, settings.username or role, settings)


def _refuse_running(busy: Iterable[Path], file: Path) -> None:
    for path in busy:
        raise ConfigError(f"{file}: its service runs here, with {path}: stop it first")


def _read_aggregator(file: Path) -> AggregatorSettings:
    return load_settings(AggregatorSettings, file, {}, {})
