"""What the pages' files refer to: data, held-out data, passwords."""

from pathlib import Path

import numpy as np

from broker.mosquitto import Mosquitto
from broker.topics import Role

USERS = {
    "aggregator": Role.AGGREGATOR,
    "operator": Role.OPERATOR,
    "monitor": Role.MONITOR,
    "pi-1": Role.DEVICE,
}
STATES = ("normal", "worn", "broken")
EACH = 20


def write_held_out(folder: Path) -> None:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(9, 4)).astype(np.float32)
    np.savez(folder / "held_out.npz", x=x, y=np.repeat(np.arange(3), 3))


def write_machines(folder: Path) -> None:
    chance = np.random.default_rng(1)
    rows = [
        f"{','.join(f'{value:.3f}' for value in chance.normal(level, 1, 4))},{state}"
        for level, state in enumerate(STATES)
        for _ in range(EACH)
    ]
    (folder / "machines.csv").write_text("\n".join(["rms,peak,kurtosis,temperature,state", *rows]) + "\n")


def write_passwords(folder: Path, broker: Mosquitto) -> None:
    for user in USERS:
        given = broker.settings(user).password_file
        assert given is not None
        (folder / f"{user}.password").write_text(given.read_text())
