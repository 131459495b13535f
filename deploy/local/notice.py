"""Where a fleet on this machine says, to its own user, how to watch it; gone when the fleet is."""

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.settings import BrokerSettings
from host.errors import ConfigError

SUFFIX = ".json"
MAX_NOTICE_BYTES = 64 << 10
LOOK_S = 0.25


class Notice(BaseModel):
    """How to reach a fleet that runs here; passwords are named by their files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    began_unix_s: float
    monitor: BrokerSettings
    operator: BrokerSettings


@contextlib.contextmanager
def posted(monitor: BrokerSettings, operator: BrokerSettings) -> Iterator[None]:
    """Let others of this user find the fleet for as long as the block lasts; raises ConfigError."""
    notice = Notice(began_unix_s=time.time(), monitor=monitor, operator=operator)
    with tempfile.NamedTemporaryFile("w", dir=notices(), prefix="fleet-", delete=False) as file:
        draft = Path(file.name)
        path = draft.with_suffix(SUFFIX)
        try:
            # A lock ends with its process, however that ends: a notice that nobody holds is stale.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(notice.model_dump_json(exclude_defaults=True))
            file.flush()
            draft.rename(path)
            yield
        finally:
            for one in (draft, path):
                one.unlink(missing_ok=True)


def newest() -> Notice | None:
    """The fleet of this user that began last and still runs; notices of ended ones are removed."""
    return max(_all_held(), key=lambda notice: notice.began_unix_s, default=None)


def runs(url: str) -> bool:
    """Whether a fleet of this user has its broker there."""
    return any(notice.monitor.url == url for notice in _all_held())


def await_newest(wait_s: float, say: Callable[[], None]) -> Notice | None:
    """Wait until a fleet runs, None when none does in time; `say` is called once if there is none yet."""
    deadline = time.monotonic() + wait_s
    if (notice := newest()) is None:
        say()
    while notice is None and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        notice = newest()
    return notice


def notices() -> Path:
    """The folder of this user's notices; raises ConfigError when it is somebody else's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_ours(Path(runtime)):
        folder = Path(runtime) / "midge"
    else:
        folder = Path(tempfile.gettempdir()) / f"midge-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_ours(folder):
        raise ConfigError(
            f"{folder} is not a folder that only you may write: remove it, or set XDG_RUNTIME_DIR"
        )
    return folder


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put anything there; links do not count."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _all_held() -> list[Notice]:
    return [notice for path in notices().glob(f"*{SUFFIX}") if (notice := _held(path)) is not None]


def _held(path: Path) -> Notice | None:
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Notice.model_validate_json(file.read(MAX_NOTICE_BYTES))
            path.unlink(missing_ok=True)
    except (OSError, ValidationError):
        return None
    return None
