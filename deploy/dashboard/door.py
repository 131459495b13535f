"""Who may come in: a password, few attempts, a signed cookie."""

import hashlib
import hmac
import secrets
from pathlib import Path

from itsdangerous import BadData, URLSafeTimedSerializer

from host.errors import ConfigError
from host.files import write_atomic

SESSION_S = 12 * 3600.0
FREE_ATTEMPTS = 5
ATTEMPT_EVERY_S = 20.0
MAX_ADDRESSES = 1000
MAX_PASSWORD_BYTES = 1024
MADE_BYTES = 15
SECRET_BYTES = 32


class Attempts:
    """Wrong passwords by address: five at once, then one every 20 s; `now` is a clock that only goes forward.

    While a thousand addresses are remembered, one that is not has to wait.
    """

    def __init__(self) -> None:
        # Until when each would have to wait if no attempt were free.
        self._until: dict[str, float] = {}

    def wait_s(self, address: str, now: float) -> float:
        """For how many seconds this address may not try; 0: it may."""
        if address not in self._until and len(self._until) >= MAX_ADDRESSES:
            self._until = {one: until for one, until in self._until.items() if until > now}
            if len(self._until) >= MAX_ADDRESSES:
                return ATTEMPT_EVERY_S
        return max(0.0, self._until.get(address, now) - now - (FREE_ATTEMPTS - 1) * ATTEMPT_EVERY_S)

    def failed(self, address: str, now: float) -> None:
        """Count a wrong password."""
        self._until[address] = max(self._until.get(address, now), now) + ATTEMPT_EVERY_S


class Door:
    """Knows the password's digest and the secret that signs cookies; a new password ends all sessions."""

    def __init__(self, password: bytes, secret: bytes) -> None:
        self._digest = password
        self._cookies = URLSafeTimedSerializer(secret, salt=b"midge dashboard " + password)
        self._attempts = Attempts()

    def wait_s(self, address: str, now: float) -> float:
        """For how many seconds this address may not try."""
        return self._attempts.wait_s(address, now)

    def opens(self, password: str, address: str, now: float) -> bool:
        """Whether that is the password; compared in constant time."""
        if hmac.compare_digest(digest_of(password.encode()), self._digest):
            return True
        self._attempts.failed(address, now)
        return False

    def ticket(self) -> str:
        """A cookie's value for who came in."""
        return str(self._cookies.dumps("in"))

    def admits(self, ticket: str | None) -> bool:
        """Whether a cookie is ours, and not older than 12 hours."""
        try:
            return ticket is not None and self._cookies.loads(ticket, max_age=int(SESSION_S)) == "in"
        except BadData:
            return False


def digest_of(password: bytes) -> bytes:
    """What is kept and compared of a password: whoever reads it still has to guess 120 random bits."""
    return hashlib.sha256(password).hexdigest().encode()


def read_password(path: Path) -> bytes:
    """The digest of the password in a file; raises ConfigError."""
    try:
        with path.open("rb") as file:
            password = file.read(MAX_PASSWORD_BYTES + 1).strip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"the dashboard's password file {path} cannot be read: {error.strerror}") from None
    if not 0 < len(password) <= MAX_PASSWORD_BYTES:
        raise ConfigError(f"{path} has to hold a password of 1 to {MAX_PASSWORD_BYTES} bytes")
    return digest_of(password)


def kept_password(folder: Path, *, renew: bool) -> tuple[bytes, str | None]:
    """The digest of our own password in `folder`, and itself where it was made only now."""
    path = folder / "password.sha256"
    if path.exists() and not renew:
        return path.read_bytes(), None
    made = secrets.token_urlsafe(MADE_BYTES)
    digest = digest_of(made.encode())
    write_atomic(path, digest, mode=0o600)
    return digest, made


def kept_secret(folder: Path) -> bytes:
    """What signs cookies: made once, for its owner alone."""
    path = folder / "secret"
    if not path.exists():
        write_atomic(path, secrets.token_bytes(SECRET_BYTES), mode=0o600)
    return path.read_bytes()


def open_folder(folder: Path) -> None:
    """Make the folder of both for its owner alone; raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; name another by --state") from None
    if mode & 0o022:
        raise ConfigError(f"others may write into {folder}: chmod go-w it, or name another by --state")
