"""Which certificate the agent shows: the one that its settings name, or one that it got since.

certificates.json             the Record
certificates/<name>/          device.key, device.crt and, where the registrar told whom to trust, ca.crt, side
                              by side; only the record says which counts
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.settings import BrokerSettings
from host.errors import ConfigError, StorageError
from host.files import sync_folder, write_atomic, write_secret

RECORD, FOLDER = "certificates.json", "certificates"
KEY, CERTIFICATE, ROOTS = "device.key", "device.crt", "ca.crt"
CONFIGURED = "configured"
MAX_FILE_BYTES = 1 << 16


class Record(BaseModel):
    """What is kept of the certificates; each is named by its folder, or is the CONFIGURED one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    configured: str = Field(default="", description="digest of the settings' certificate")
    token: str = Field(default="", description="id of the token that enrolled us last")
    current: str | None = Field(default=None, description="in use; None: there is none")
    before: str | None = Field(default=None, description="to go back to, until the broker accepted current")
    pending: str | None = Field(default=None, description="a key that waits for its certificate")
    noted_unix_s: float | None = Field(default=None, description="when the registrar last said when to ask")
    renew_unix_s: float | None = Field(default=None, description="and when that is, by our clock of then")


class Identity:
    """Reads and changes it; every change is on the disk before it counts. Raises StorageError."""

    def __init__(self, state_folder: Path, broker: BrokerSettings) -> None:
        self._path = state_folder / RECORD
        self._folder = state_folder / FOLDER
        self._broker = broker
        self.record = self._of_these_settings(self._read())

    @property
    def broker(self) -> BrokerSettings:
        """How to reach the broker, with the certificate of now."""
        current = self.record.current
        if current is None or current == CONFIGURED:
            return self._broker
        files = {
            "key_file": self._folder / current / KEY,
            "certificate_file": self._folder / current / CERTIFICATE,
        }
        roots = self._folder / current / ROOTS
        return self._broker.model_copy(update=files | ({"ca_file": roots} if roots.exists() else {}))

    def roots(self, *, configured: bool = False) -> bytes:
        """Whom we trust, or the settings name, as PEM; empty where the system knows. Raises StorageError."""
        file = (self._broker if configured else self.broker).ca_file
        return b"" if file is None else self._bytes(file)

    def pair(self) -> tuple[bytes, bytes]:
        """Key and certificate of now, as PEM; raises StorageError without one."""
        files = self.broker.key_file, self.broker.certificate_file
        if files[0] is None or files[1] is None:
            raise StorageError("there is no certificate; enrol with a token")
        return self._bytes(files[0]), self._bytes(files[1])

    def pending_key(self) -> bytes:
        """The key to get a certificate for, as PEM; the same until there is one, also after a power cut."""
        pending = self.record.pending
        if pending is None or not (self._folder / pending / KEY).exists():
            pending = self._make_key()
        return self._bytes(self._folder / pending / KEY)

    def adopt(self, chain: bytes, roots: bytes | None = None, *, token: str | None = None) -> None:
        """Show this certificate of the pending key from now on, and trust these roots, or else as before.

        One that a token gave is not gone back on, and whom to trust the settings say again: both are new.
        """
        pending, record = self.record.pending, self.record
        if pending is None:
            raise StorageError(f"{self._path}: no key waits for a certificate; it will be asked for again")
        if roots is None and token is None and self.broker.ca_file != self._broker.ca_file:
            roots = self.roots()
        if roots is not None:
            self._write(self._folder / pending / ROOTS, roots)
        self._write(self._folder / pending / CERTIFICATE, chain)
        update = {"current": pending, "pending": None, "token": token or record.token}
        self._save(record.model_copy(update=update | {"before": None if token else record.current}))

    def confirm(self) -> None:
        """Forget what came before: the broker accepted the certificate of now."""
        if self.record.before is not None:
            self._save(self.record.model_copy(update={"before": None}))
            self._tidy()

    def go_back(self) -> bool:
        """Show the certificate before this one again; False when there is none to go back to.

        What the registrar said of when to ask was said of the other one, and is forgotten.
        """
        before = self.record.before
        if before is None:
            return False
        update = {"current": before, "before": None, "noted_unix_s": None, "renew_unix_s": None}
        self._save(self.record.model_copy(update=update))
        self._tidy()
        return True

    def note(self, renew_after_s: float, unix_s: float) -> None:
        """Keep when the registrar wants to be asked, from now on."""
        times = {"noted_unix_s": unix_s, "renew_unix_s": unix_s + renew_after_s}
        self._save(self.record.model_copy(update=times))

    def _of_these_settings(self, record: Record) -> Record:
        """Let another certificate in the settings count for more than those that followed the last one."""
        file = self._broker.certificate_file
        digest = hashlib.sha256(self._configured(file)).hexdigest() if file else ""
        if record.configured == digest:
            return record
        return Record(configured=digest, current=CONFIGURED if file else None, pending=record.pending)

    def _configured(self, file: Path) -> bytes:
        try:
            return self._bytes(file)
        except StorageError as error:
            raise ConfigError(f"broker certificate_file: {error}") from None

    def _make_key(self) -> str:
        # Loaded for this alone: an idle agent is spared its memory.
        from host.certificates import new_key  # noqa: PLC0415

        name = secrets.token_hex(8)
        folder = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            write_secret(folder / KEY, new_key())
            # Another key than the one that was asked for is no use: the token is the first one's.
            sync_folder(self._folder)
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error}; free some space") from error
        self._save(self.record.model_copy(update={"pending": name}))
        return name

    def _tidy(self) -> None:
        """Remove what the record does not name."""
        kept = {self.record.current, self.record.before, self.record.pending}
        with contextlib.suppress(OSError):
            for folder in self._folder.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)

    def _read(self) -> Record:
        try:
            return Record.model_validate_json(self._bytes(self._path)) if self._path.exists() else Record()
        except ValidationError as error:
            raise StorageError(
                f"{self._path} is damaged: {error.errors()[0]['msg']}; remove it, and enrol with a new token"
            ) from None

    def _save(self, record: Record) -> None:
        self._write(self._path, record.model_dump_json(indent=1).encode())
        self.record = record

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomic(path, content)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}; free some space") from error

    def _bytes(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def shred(path: Path) -> None:
    """Overwrite a secret and remove it: what a card holds of a removed file can be read; raises OSError."""
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
