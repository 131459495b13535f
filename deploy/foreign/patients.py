"""The accounts to try, from the settings files of the services and of people."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aggregator.ledger import in_use
from aggregator.settings import AggregatorSettings
from broker.enrolment import Token
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.options import OperatorSettings
from deploy.registrar.settings import RegistrarSettings
from edge_agent.settings import AgentSettings
from edge_agent.store import is_in_use
from host.errors import ConfigError, DataError
from host.files import write_secret
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
    registrar: Path | None = None
    enrolment: Path | None = None
    """The agent.toml of a device with a token that it has not used."""


def read_patients(files: Files, scratch: Path) -> list[Patient]:
    """The accounts in these files, all of one federation; `scratch` is for a token's password.

    Raises ConfigError for a file that cannot be used, for a service that runs here, since some brokers would
    end its connection for ours, and when there is none or they are of several federations.
    """
    found = [*_services(files), *_people(files), *_enrolling(files, scratch)]
    if not found:
        raise ConfigError(
            "which accounts? give --aggregator, --device, --operator or --monitor a settings file"
        )
    # On the broker's own machine services reach it by loopback, and devices by its name; tokens may have a
    # listener of their own.
    checked = [one.settings for one in found if one.role is not Role.ENROLMENT]
    hosts = {one.endpoint.host for one in checked if not one.endpoint.is_loopback}
    if len(hosts) > 1 or len({one.topics for one in checked}) > 1:
        places = {f"{one.topics.root} on {one.url}" for one in checked}
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
    if files.registrar is not None:
        broker = load_settings(RegistrarSettings, files.registrar, {}, {}).broker
        yield Patient(Role.REGISTRAR, broker.username or Role.REGISTRAR, broker)
    for role, file in ((Role.OPERATOR, files.operator), (Role.MONITOR, files.monitor)):
        if file is not None:
            settings = load_settings(OperatorSettings, file, {}, {}).broker
            yield Patient(role, settings.username or role, settings)


def _enrolling(files: Files, scratch: Path) -> Iterator[Patient]:
    if files.enrolment is None:
        return
    agent = load_settings(AgentSettings, files.enrolment, {}, {})
    if agent.enrolment is None:
        raise ConfigError(f"{files.enrolment}: has no table enrolment: make a bundle by midge enroll --token")
    file = agent.enrolment.token_file
    try:
        token = Token.read(file.read_text(errors="replace"))
    except (OSError, DataError) as error:
        raise ConfigError(f"{file} cannot be used: {error}") from None
    write_secret(password := scratch / token.id, token.password.encode())
    yield Patient(Role.ENROLMENT, token.id, agent.broker.at(agent.enrolment.url, token.id, password))


def _refuse_running(busy: Iterable[Path], file: Path) -> None:
    for path in busy:
        raise ConfigError(f"{file}: its service runs here, with {path}: stop it first")


def _read_aggregator(file: Path) -> AggregatorSettings:
    return load_settings(AggregatorSettings, file, {}, {})
