"""Whether the disk takes files again."""

import shutil
from pathlib import Path

from aggregator.spool import RESERVE_BYTES
from host.files import write_atomic

PROBE_BYTES = 1 << 20


def has_room(folder: Path, wanted_bytes: int) -> bool:
    """Whether a file of `wanted_bytes` fits, with a reserve; a small one is tried, for quotas do not show."""
    probe = folder / "room.probe"
    try:
        if shutil.disk_usage(folder).free < RESERVE_BYTES + wanted_bytes:
            return False
        write_atomic(probe, bytes(PROBE_BYTES))
        probe.unlink()
    except OSError:
        return False
    return True
