"""What signed announcements cost a device: disk for the library, memory once it is loaded, time a check.

Prints a table and a JSON line. The checks run in a process that loaded nothing of the library before.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from broker.messages import Announcement
from broker.signing import Signer, unseal

TOPIC = "midge/v1/default/round"
PARTS = ("cryptography", "cffi", "pycparser")
CHECKS = 1000


def installed_bytes(name: str) -> int:
    """Of all files of a distribution, without what Python compiled."""
    try:
        found = files(name) or []
    except PackageNotFoundError:
        return 0
    paths = [Path(str(file.locate())) for file in found if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def sealed() -> tuple[str, bytes]:
    """A public key, and what its owner signed."""
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer(Path(folder) / "signing.key")
    return signer.public_key, signer.seal(TOPIC, Announcement(session=1, sequence=1))


def checked() -> dict[str, float]:
    key, payload = sys.stdin.readline().strip(), bytes.fromhex(sys.stdin.readline())
    unseal(TOPIC, payload, None)
    before, began = resident_bytes(), time.process_time()
    unseal(TOPIC, payload, key)
    first_s, after = time.process_time() - began, resident_bytes()
    began = time.process_time()
    for _ in range(CHECKS):
        unseal(TOPIC, payload, key)
    each_s = (time.process_time() - began) / CHECKS
    return {"memory_bytes": after - before, "first_check_s": first_s, "check_s": each_s}


def main() -> None:
    key, payload = sealed()
    said = subprocess.run(
        [sys.executable, __file__, "check"],
        input=f"{key}\n{payload.hex()}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(said.stdout) | {f"{name}_bytes": installed_bytes(name) for name in PARTS}
    for name in PARTS:
        print(f"installed, {name:14} {figures[f'{name}_bytes'] / 1e6:8.1f} MB")
    print(f"memory, once loaded       {figures['memory_bytes'] / 1e6:8.1f} MB")
    print(f"first check               {figures['first_check_s'] * 1e3:8.1f} ms of CPU")
    print(f"each further check        {figures['check_s'] * 1e3:8.3f} ms of CPU")
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        print(json.dumps(checked()))
    else:
        main()
