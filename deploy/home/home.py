"""Where things lie in a home, and how its accounts reach the broker."""

from dataclasses import dataclass
from pathlib import Path

from aggregator.settings import SIGNING_KEY
from broker.conf import LOOPBACK
from broker.settings import BrokerSettings
from broker.signing import Signer
from broker.topics import Role, Topics
from deploy.home.federation import FederationSettings
from deploy.pki.authority import Authority
from deploy.pki.succession import trusted_roots
from deploy.registrar.settings import TOKEN_REGISTER
from deploy.registrar.tokens import Tokens
from host.errors import ConfigError
from host.settings import load_settings

FEDERATION = "federation.toml"
PASSWORD = "password"  # noqa: S105 - the name of a file
# The broker's accounts of those that have a token.
TOKENS = "tokens"
# Who connects from the broker's own machine.
LOCAL_ROLES = (Role.AGGREGATOR, Role.REGISTRAR, Role.OPERATOR, Role.MONITOR)


@dataclass(frozen=True)
class Home:
    """A federation's folder, absolute, and what its federation.toml says."""

    root: Path
    federation: FederationSettings

    @classmethod
    def open(cls, folder: Path) -> "Home":
        """Read a home; raises ConfigError when the folder is none."""
        root = folder.absolute()
        if not (root / FEDERATION).is_file():
            raise ConfigError(
                f"{root} is no federation's home: name it with --home, or make one: midge init {root}"
            )
        return cls(root, load_settings(FederationSettings, root / FEDERATION, {}, {}))

    @property
    def pki(self) -> Path:
        """The authority's keys, certificates and register."""
        return self.root / "pki"

    @property
    def broker(self) -> Path:
        """All that the broker needs."""
        return self.root / "broker"

    @property
    def devices(self) -> Path:
        """A bundle for each device."""
        return self.root / "devices"

    @property
    def topics(self) -> Topics:
        """The federation's topics."""
        return Topics(self.federation.name, self.federation.prefix)

    def authority(self) -> Authority:
        """Load the authority; raises ConfigError."""
        return Authority.load(self.pki)

    def roots(self) -> bytes:
        """Whom devices and the broker trust, as PEM; raises ConfigError."""
        return trusted_roots(self.pki)

    def tokens(self) -> Tokens:
        """Open the registrar's register of tokens; raises StorageError."""
        folder = self.of(Role.REGISTRAR)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Tokens(folder / TOKEN_REGISTER)

    def of(self, role: Role) -> Path:
        """The folder of an account that is no device's."""
        return self.root / role.value

    def aggregator_key(self) -> str:
        """What devices pin: 64 hexadecimal digits."""
        return Signer(self.of(Role.AGGREGATOR) / SIGNING_KEY).public_key

    def local_broker(self, role: Role) -> BrokerSettings:
        """How an account reaches the broker from the broker's machine, for a file in the account's folder."""
        return BrokerSettings(
            url=f"mqtt://{LOOPBACK}:{self.federation.ports.local}",
            username=role.value,
            password_file=Path(PASSWORD),
            prefix=self.federation.prefix,
            federation=self.federation.name,
        )
