"""Who gets what: each device a random share of the examples, without the digits that it lacks."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.simulator.training.partition import chance_of, iid
from edge_agent.data.examples import Examples
from host.errors import ConfigError, DataError

LACKING = ((1, 3, 7), (2, 5, 8), (4, 6, 9))
NAMES = string.ascii_lowercase


@dataclass(frozen=True)
class Share:
    """One device's part."""

    device: str
    lacking: tuple[int, ...]
    path: Path
    examples: int


def share_out(pool: Examples, devices: int, seed: int, folder: Path) -> list[Share]:
    """Cut the examples by chance into a part a device, and write each as `<folder>/<device>.npz`.

    The sets of missing digits repeat. Raises ConfigError for a number of devices that cannot be,
    DataError when there are fewer examples than that takes.
    """
    if not 1 <= devices <= len(NAMES):
        raise ConfigError(f"--devices {devices}: from 1 to {len(NAMES)} devices can be shown")
    folder.mkdir(parents=True, exist_ok=True)
    shares = []
    for index, part in enumerate(iid(len(pool.y), devices, chance_of(seed))):
        lacking = LACKING[index % len(LACKING)]
        kept = part[~np.isin(pool.y[part], lacking)]
        if not len(kept):
            raise DataError(f"{len(pool.y)} examples are too few for {devices} devices: take fewer devices")
        path = folder / f"{NAMES[index]}.npz"
        write_examples(path, Examples(pool.x[kept], pool.y[kept]))
        shares.append(Share(NAMES[index], lacking, path, len(kept)))
    return shares


def write_examples(path: Path, examples: Examples) -> None:
    """Write the arrays `x` and `y`, as the data source `npz` reads them."""
    np.savez(path, x=examples.x, y=examples.y)


def spell(digits: Sequence[int]) -> str:
    """Digits as people list them."""
    return ", ".join(str(digit) for digit in digits)
