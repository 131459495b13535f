"""A bundle, a wheelhouse of tiny wheels, and boot partitions, for the tests of cards."""

import hashlib
import struct
import subprocess
import zipfile
from pathlib import Path

MIB = 1 << 20
START_MIB = 1
SECRET = b"-----BEGIN PRIVATE KEY-----\nthis is what must not stay on a card\n"
CMDLINE = "console=tty1 root=PARTUUID=1-02 rootwait cgroup_disable=memory"
IMAGERS = "#cloud-config\nhostname: from-imager\n"
STOCK = {"config.txt": "arm_64bit=1\n", "cmdline.txt": f"{CMDLINE}\n", "user-data": IMAGERS}


def write_bundle(folder: Path, device: str = "pi-1", **more: bytes) -> Path:
    bundle = folder / device
    bundle.mkdir(parents=True)
    (bundle / "agent.toml").write_text(f'device = "{device}"\n')
    files = {"ca.crt": b"ca", "device.crt": b"crt", "device.key": SECRET, **more}
    for name, content in files.items():
        (bundle / name).write_bytes(content)
    return bundle


def write_wheelhouse(folder: Path, version: str = "0.1.0-1", *, pip: bool = True) -> Path:
    """A wheelhouse of midge's wheel, whose agent says its version, and of pip, as it is here."""
    folder.mkdir(parents=True)
    info = f"midge-{version.partition('-')[0]}.dist-info"
    with zipfile.ZipFile(folder / f"midge-{version.partition('-')[0]}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("midge_agent.py", f"def main():\n    print({version!r})\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: midge\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nmidge-agent = midge_agent:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    if pip:
        _pack_pip(folder / "pip-1-py3-none-any.whl")
    (folder / "VERSION").write_text(f"{version}\n")
    names = sorted(path.name for path in folder.iterdir())
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def mounted(folder: Path) -> Path:
    """What a card's boot partition looks like where it is mounted."""
    folder.mkdir()
    for name, text in STOCK.items():
        (folder / name).write_text(text)
    return folder


def image(path: Path, mib: int = 64) -> Path:
    """The same inside of an image with a partition table."""
    fat = path.with_suffix(".fat")
    with fat.open("wb") as file:
        file.truncate(mib * MIB)
    subprocess.run(["/usr/sbin/mkfs.fat", "-F", "32", "-s", "1", fat], stdout=subprocess.DEVNULL, check=True)
    for name, text in STOCK.items():
        subprocess.run(["/usr/bin/mcopy", "-i", fat, "-", f"::/{name}"], input=text.encode(), check=True)
    entry = struct.pack("<B3sB3sII", 0, b"", 0x0C, b"", START_MIB * MIB // 512, mib * MIB // 512)
    table = b"\0" * 446 + entry.ljust(64, b"\0") + b"\x55\xaa"
    path.write_bytes(table.ljust(START_MIB * MIB, b"\0") + fat.read_bytes())
    fat.unlink()
    return path


def _pack_pip(wheel: Path) -> None:
    import pip  # noqa: PLC0415  it is not needed by most tests

    home = Path(pip.__file__).parent
    with zipfile.ZipFile(wheel, "w") as file:
        for path in home.rglob("*"):
            if path.suffix != ".pyc" and path.is_file():
                file.write(path, Path("pip") / path.relative_to(home))
