"""`make flash-test`: cards that midge flash writes, in machines that QEMU emulates; each step is asserted.

`python -m tests.flash.run CACHE ARCHITECTURE`, after fetch.sh has filled CACHE. amd64 goes through every
step, arm64 boots, joins and trains. Prints how long they took; logs and cards are kept when one fails.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.card.wheelhouse import Target, build_wheelhouse
from tests.flash.course import Course, federation, make_home, run_course
from tests.flash.image import make_base, make_fat
from tests.flash.versions import MUTE, other_version
from tests.system.lab import write_examples

# Of the guest: Debian 13.
PYTHON = "3.13"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def main() -> int:
    """Run all; raises where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("architecture", choices=MACHINES)
    given = parser.parse_args()
    cache, architecture = given.cache.absolute(), given.architecture
    folder = Path(tempfile.mkdtemp(prefix="midge-flash-"))
    sys.stdout.write(f"logs and cards are in {folder}\n")
    data = folder / "data.npz"
    write_examples(data, 2000, seed=1)
    make_base(cache / f"rootfs-{architecture}.tar", cache, architecture, data)
    wheels = cache / f"wheels-{architecture}"
    shutil.rmtree(wheels, ignore_errors=True)
    build_wheelhouse(target := Target(PYTHON, MACHINES[architecture]), wheels)
    whole = architecture == "amd64"
    home = make_home(folder / "home")
    with federation(home) as (lab, broker):
        course = Course(architecture, cache, wheels / target.tag, folder, home, lab, say)
        if whole:
            for name, agent in (("next", None), ("mute", MUTE)):
                other_version(course.wheelhouse, folder / "updates" / name, agent)
            course.updates = make_fat(folder / "updates.img", folder / "updates")
        run_course(course, broker, whole=whole)
    shutil.rmtree(folder)
    return 0


def say(line: str) -> None:
    """A step that went well."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
