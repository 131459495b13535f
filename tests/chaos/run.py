"""`make chaos`: run after run on a real Mosquitto, while its processes are killed and its links fail.

Fails when an acknowledged update is lost or counted twice, a model is not the one that its updates make, a
run does not end, or a process ends by itself. The folder with all books and logs is then kept.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.storm import rage
from tests.system.lab import PLUGINS


def main() -> int:
    """Run all; the exit status is 1 when something must not have happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="all harm follows from it")
    given = parser.parse_args()
    # Updates are trained again here, by the devices' runtime.
    sys.path.append(str(PLUGINS))
    folder = Path(tempfile.mkdtemp(prefix="midge-chaos-"))
    tally = rage(folder, given.kills, given.seed, lambda line: print(line, flush=True))  # noqa: T201
    sys.stdout.write("\n".join([*tally.violations, *tally.lines()]) + "\n")
    if tally.violations:
        sys.stdout.write(f"books and logs are in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
