"""The installed midge as a wheel again, so that whoever can run it can also hand it on, without tools or network.

Source: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

PACKAGES = ("aggregator", "broker", "deploy", "edge_agent", "host")
HERE = Path(__file__).parents[2]
METADATA = ("METADATA", "entry_points.txt")
WHEEL = "Wheel-Version: 1.0\nGenerator: midge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
# The same content shall be the same file: zip knows no earlier time.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_wheel(folder: Path) -> Path:
    """Write midge-VERSION-py3-none-any.whl; the same code gives the same bytes."""
    own = distribution("midge")
    info = f"midge-{own.version}.dist-info"
    path = folder / f"midge-{own.version}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _contents(own, info):
            archive.writestr(_entry(name), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}\n")
        archive.writestr(_entry(f"{info}/RECORD"), "".join(record) + f"{info}/RECORD,,\n")
    return path


def _contents(own: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        for file in sorted((HERE / package).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file.relative_to(HERE).as_posix(), file.read_bytes()
    for name in METADATA:
        yield f"{info}/{name}", (own.read_text(name) or "").encode()
    yield f"{info}/WHEEL", WHEEL.encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
