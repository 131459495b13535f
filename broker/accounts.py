"""Mosquitto's file of accounts: a line for each user, with the hash of its password."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

from host.files import SECRET_MODE, only_writer, replace_file, write_atomic

# Mosquitto's own. Passwords that are made at random need no slow hash.
ITERATIONS = 101


def new_password() -> str:
    """Make up a password of 192 random bits."""
    return secrets.token_urlsafe(24)


def update_accounts(path: Path, passwords: Mapping[str, str | None]) -> None:
    """Give each user the password, or take away the account of one without; the others stay as they are.

    A new file is for its owner alone, and one that is there stays whose it is. The broker reads it when it
    starts, and after SIGHUP.
    """
    with only_writer(path.parent):
        lines = _lines(path) | {
            user: None if password is None else f"{user}:{_hashed(password)}\n"
            for user, password in passwords.items()
        }
        content = "".join(line for line in lines.values() if line is not None)
        if path.exists():
            replace_file(path, content.encode(), SECRET_MODE)
        else:
            write_atomic(path, content.encode(), mode=0o600)


def users(path: Path) -> list[str]:
    """Who has an account, in the order of the file; nobody where there is none."""
    return list(_lines(path))


def _lines(path: Path) -> dict[str, str | None]:
    if not path.exists():
        return {}
    return {line.partition(":")[0]: line for line in path.read_text().splitlines(keepends=True)}


def _hashed(password: str) -> str:
    """Hash as mosquitto_passwd does (type 7): PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
