"""One authority after the other: the new one lies in a folder inside the old one's until it takes its place.

1. `begin`: it is there, and to be trusted.  2. `sign`: certificates are made with it.  3. `stand_alone`: the
old one is not to be trusted any more.  4. `finish`: it takes the old one's place.
Each step is one file written or renamed, so that a power cut leaves the stage before or the stage after.
"""

import secrets
import shutil
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp

from deploy.pki.issuer import INTERMEDIATE, INTERMEDIATE_KEY, ROOT, ROOT_KEY, Issuer
from host.errors import ConfigError
from host.files import write_atomic

NEXT, STAGE = "next", "stage"


class Stage(StrEnum):
    """How far the successor is."""

    TRUSTED = "trusted"
    SIGNING = "signing"
    ALONE = "alone"


def successor_of(folder: Path) -> tuple[Stage | None, Path]:
    """The stage of an authority's successor, None where it has none, and where that lies."""
    successor = folder / NEXT
    try:
        return Stage((successor / STAGE).read_text()), successor
    except FileNotFoundError:
        return None, successor


def trusted_roots(folder: Path) -> bytes:
    """Whom to trust, as PEM; needs no key. Raises ConfigError where there is no authority."""
    stage, successor = successor_of(folder)
    folders = {None: [folder], Stage.ALONE: [successor]}.get(stage, [folder, successor])
    try:
        return b"".join((place / ROOT).read_bytes() for place in folders)
    except OSError as error:
        raise ConfigError(
            f"authority {folder}: {ROOT} cannot be read: {error.strerror}; make one with midge init"
        ) from None


def begin(folder: Path, federation: str, now: datetime) -> None:
    """Make the successor, if there is none yet."""
    stage, successor = successor_of(folder)
    if stage is None:
        made = Path(mkdtemp(prefix=f".{NEXT}.", dir=folder))
        try:
            # Names tell a broker that trusts both which list of revoked certificates is whose.
            Issuer.make(made, f"{federation} {secrets.token_hex(4)}", now)
            write_atomic(made / STAGE, Stage.TRUSTED.encode())
            made.rename(successor)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


def sign(folder: Path) -> None:
    """Have the successor sign from now on."""
    _, successor = successor_of(folder)
    write_atomic(successor / STAGE, Stage.SIGNING.encode())


def stand_alone(folder: Path) -> None:
    """Trust the successor only from now on."""
    _, successor = successor_of(folder)
    write_atomic(successor / STAGE, Stage.ALONE.encode())


def finish(folder: Path) -> None:
    """Put the successor that stands alone in the place of the authority, whose keys are no more."""
    _, successor = successor_of(folder)
    for name, mode in ((INTERMEDIATE_KEY, 0o600), (INTERMEDIATE, None), (ROOT, None), (ROOT_KEY, 0o600)):
        if (successor / name).exists():
            write_atomic(folder / name, (successor / name).read_bytes(), mode=mode)
        else:
            # Only a root's key may be elsewhere already.
            (folder / name).unlink(missing_ok=True)
    successor.rename(folder / f".{NEXT}.{secrets.token_hex(4)}")
    for left in folder.glob(f".{NEXT}.*"):
        shutil.rmtree(left)
