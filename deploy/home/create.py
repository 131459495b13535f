"""Make a federation's home, or what is missing of it; what is there stays as it is."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from aggregator.run_settings import RunSettings
from aggregator.settings import SIGNING_KEY, AggregatorSettings, TaskSettings
from broker.accounts import new_password, update_accounts, users
from broker.acl import acl, role_acl
from broker.conf import Listener, conf
from broker.discovery import Discovery
from broker.signing import Signer
from broker.topics import Role
from deploy.command.options import OperatorSettings
from deploy.home.bundle import CA
from deploy.home.federation import FederationSettings
from deploy.home.home import FEDERATION, LOCAL_ROLES, PASSWORD, TOKENS, Home
from deploy.home.starter import example, example_map, starter
from deploy.pki.authority import CRL, Authority
from deploy.pki.issuer import ROOT
from deploy.registrar.settings import TOKEN_REGISTER, RegistrarSettings
from host.certificates import new_key, private_key
from host.errors import ConfigError
from host.files import write_atomic, write_secret
from host.settings import load_settings

REMOTE = "remote.toml"
# Beside those of federation.toml: what is on the broker's machine checks its certificate, too.
LOCAL_HOSTS = ("localhost", "127.0.0.1")
# Whoever has no token leaves at once; those that stay waiting shall not use up the broker's sockets.
MAX_ENROLLING = 200


def create(folder: Path, given: Mapping[str, object]) -> Home:
    """Begin a home with settings of federation.toml, or open it; raises ConfigError where it has others."""
    root = folder.absolute()
    if not (root / FEDERATION).exists():
        if "hosts" not in given:
            raise ConfigError("how do devices reach the broker? give --host, a host name or an address")
        settings = load_settings(FederationSettings, None, given, {})
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(root / FEDERATION, starter(settings, "A federation of midge.").encode())
    home = Home.open(root)
    if load_settings(FederationSettings, root / FEDERATION, given, {}) != home.federation:
        raise ConfigError(f"{root / FEDERATION} says otherwise: leave out the options, or change that file")
    return home


def complete(home: Home) -> list[Path]:
    """Make what is missing, and return it: keys, certificates, accounts and settings files."""
    made = []
    for path, make in _parts(home).items():
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make(path)
            made.append(path)
    _open_accounts(home)
    return made


def broker_conf(home: Home, folder: Path, state: Path) -> str:
    """Mosquitto's settings for the home's broker, with its files in `folder`; both paths absolute."""
    ports = home.federation.ports
    listeners = (
        Listener(ports.devices, "acl"),
        Listener(ports.enrolment, "enrolment.acl", TOKENS, max_connections=MAX_ENROLLING),
        Listener(ports.viewers, "viewers.acl", "viewers"),
        # Commands of one operator run side by side, and whoever revokes a device takes its connection over.
        Listener(ports.local, "acl", "accounts", loopback=True, tls=False, name_is_client_id=False),
    )
    return conf(folder, listeners, state=state)


def broker_texts(home: Home, folder: Path, state: Path) -> dict[str, str]:
    """The broker's generated files by name, as this version writes them."""
    discovery = _discovery(home)
    return {
        "mosquitto.conf": broker_conf(home, folder, state),
        "acl": acl(home.topics, {role.value: role for role in LOCAL_ROLES}, discovery),
        "enrolment.acl": role_acl(home.topics, Role.ENROLMENT),
        "viewers.acl": role_acl(home.topics, Role.MONITOR, discovery),
    }


def _discovery(home: Home) -> Discovery | None:
    """What the home's aggregator tells Home Assistant of, by its settings; raises ConfigError."""
    path = home.of(Role.AGGREGATOR) / "aggregator.toml"
    return load_settings(AggregatorSettings, path, {}, {}).discovery if path.exists() else None


def outdated(home: Home) -> list[Path]:
    """The broker's generated files that are there and that this version would write otherwise."""
    texts = broker_texts(home, home.broker, home.broker / "state")
    return [
        path
        for name, text in texts.items()
        if (path := home.broker / name).exists() and _general(path.read_text()) != _general(text)
    ]


def _general(text: str) -> list[str]:
    """Leave out what depends on the machine and the user that made it."""
    return [
        line for line in text.splitlines() if not (line.startswith("memory_limit ") or line == "user root")
    ]


def _parts(home: Home) -> Mapping[Path, Callable[[Path], object]]:
    """Each file with what makes it, after those that it needs."""
    broker, aggregator = home.broker, home.of(Role.AGGREGATOR)
    texts = broker_texts(home, broker, broker / "state")
    return {
        home.pki / ROOT: lambda path: Authority.create(path.parent, home.federation.name),
        broker / "ca.crt": lambda path: write_atomic(path, home.roots()),
        broker / "crl.pem": lambda path: shutil.copyfile(home.pki / CRL, path),
        broker / "broker.key": lambda path: write_secret(path, new_key()),
        broker / "broker.crt": lambda path: write_atomic(path, _broker_certificate(home)),
        broker / "state": lambda path: path.mkdir(mode=0o700),
        **{broker / name: _writing(text) for name, text in texts.items()},
        **{broker / name: lambda path: update_accounts(path, {}) for name in ("accounts", "viewers", TOKENS)},
        **{home.of(role) / PASSWORD: _make_password for role in LOCAL_ROLES},
        aggregator / SIGNING_KEY: Signer,
        aggregator / "aggregator.toml": _writing(_aggregator_toml(home)),
        home.of(Role.REGISTRAR) / "registrar.toml": _writing(_registrar_toml(home)),
        home.of(Role.MONITOR) / CA: lambda path: write_atomic(path, home.roots()),
        home.of(Role.MONITOR) / REMOTE: _writing(_remote_toml(home)),
        **{
            home.of(role) / f"{role}.toml": _writing(_operator_toml(home, role))
            for role in (Role.OPERATOR, Role.MONITOR)
        },
    }


def _writing(text: str) -> Callable[[Path], object]:
    return lambda path: write_atomic(path, text.encode())


def _make_password(path: Path) -> None:
    write_secret(path, new_password().encode())


def _broker_certificate(home: Home) -> bytes:
    names = dict.fromkeys((*home.federation.hosts, *LOCAL_HOSTS))
    key = private_key((home.broker / "broker.key").read_bytes())
    return home.authority().issue_server(tuple(names), key.public_key())


def _open_accounts(home: Home) -> None:
    """Give each role its account, where it has none yet."""
    for name, roles in {"accounts": LOCAL_ROLES, "viewers": (Role.MONITOR,)}.items():
        there = users(home.broker / name)
        missing = {role.value: (home.of(role) / PASSWORD).read_text() for role in roles if role not in there}
        if missing:
            update_accounts(home.broker / name, missing)


def _aggregator_toml(home: Home) -> str:
    # The home's broker is its owner's: nobody else reads it.
    local = home.local_broker(Role.AGGREGATOR)
    settings = AggregatorSettings(folder=Path(), sealed=False, broker=local)
    return (
        starter(settings, "The aggregator of this federation.")
        + example_map("device_keys", AggregatorSettings, f'pi-1 = "{"0" * 64}"')
        + example("tasks.digits", TaskSettings(file=Path("digits.py")))
        + example("tasks.digits.settings", RunSettings())
    )


def _registrar_toml(home: Home) -> str:
    settings = RegistrarSettings(
        broker=home.local_broker(Role.REGISTRAR),
        authority=Path("..") / home.pki.name,
        tokens=Path(TOKEN_REGISTER),
    )
    return starter(settings, "The registrar of this federation.")


def _operator_toml(home: Home, role: Role) -> str:
    settings = OperatorSettings(broker=home.local_broker(role))
    return starter(settings, f"How the account {role} reaches the broker, from the broker's machine.")


def _remote_toml(home: Home) -> str:
    broker = home.local_broker(Role.MONITOR)
    url = home.federation.url(home.federation.ports.viewers)
    settings = OperatorSettings(broker=broker.model_copy(update={"url": url, "ca_file": Path(CA)}))
    return starter(
        settings, "How the account monitor reaches the broker from another machine: copy this folder."
    )
