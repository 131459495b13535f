"""The package of docs/extending.md, installed as an installer would leave it."""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.pages import ROOT, files

FILES = files(ROOT / "docs/extending.md")


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Have its entry points found, until the end."""
    _write(folder)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if name.partition(".")[0] == "our_midge"]:
        del sys.modules[module]


def _write(folder: Path) -> None:
    project = tomllib.loads(FILES["pyproject.toml"].text)["project"]
    for name, block in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(block.text)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
