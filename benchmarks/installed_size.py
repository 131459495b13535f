"""What each distribution of a device's environment takes on the disk: the wheel and its base dependencies.

`python benchmarks/installed_size.py` prints a table; light_agent.py --venv has it, too. It downloads. Sizes
are those of the files that RECORD names, in 10^6 bytes; pip and setuptools are not part of it.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# Run by the environment's own Python.
LISTING = """
import importlib.metadata, json
def sizes(distribution):
    found = [(f.suffix, f.locate()) for f in distribution.files or []]
    return [(suffix == ".pyc", path.stat().st_size) for suffix, path in found if path.is_file()]
print(json.dumps([
    (d.name, d.version, sum(n for _, n in sizes(d)), sum(n for code, n in sizes(d) if code))
    for d in importlib.metadata.distributions()
]))
"""


class Size(NamedTuple):
    name: str
    version: str
    all_bytes: int
    bytecode: int


def installed_sizes(folder: Path) -> list[Size]:
    """Install this tree's wheel into a new environment, as a device would; largest first."""
    wheels = folder.with_name("wheels")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    venv.create(folder)
    python = str(folder / "bin/python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input"]
    subprocess.run([*install, *map(str, wheels.glob("*.whl"))], check=True)
    listed = json.loads(subprocess.check_output([python, "-c", LISTING]))
    return sorted((Size(*row) for row in listed), key=lambda size: -size.all_bytes)


def show_sizes(sizes: list[Size]) -> None:
    total = Size("in all", "", sum(s.all_bytes for s in sizes), sum(s.bytecode for s in sizes))
    print(f"{'distribution':20}{'version':>12}{'MB':>8}{'of it byte code':>18}")
    for size in [*sizes, total]:
        print(f"{size.name:20}{size.version:>12}{size.all_bytes / 1e6:8.1f}{size.bytecode / 1e6:18.1f}")
    print()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        show_sizes(installed_sizes(Path(folder) / "venv"))


if __name__ == "__main__":
    main()
