"""What it costs to seal an update and to open it: speed, peak memory, size.

Prints a table and a JSON line. The work is done in a process of its own, from file to file.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from broker.sealing import SealingKey, context_of, seal_update, sealed_size
from broker.topics import Topics

SIZES_MB = (1, 40, 400)
PART = bytes(1 << 20)
CONTEXT = context_of(Topics("lab"), "run", 1, "pi-1")


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))


def measure(megabytes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="midge-sealing-") as folder:
        key, path = SealingKey(Path(folder) / "key"), Path(folder) / "update"
        b"".join(seal_update([b"loads the library"], key.public_key, CONTEXT))
        before, began = peak_mb(), time.perf_counter()
        with path.open("wb") as file:
            file.writelines(seal_update((PART for _ in range(megabytes)), key.public_key, CONTEXT))
        sealed_s, began = time.perf_counter() - began, time.perf_counter()
        with path.open("rb") as file:
            opened = sum(map(len, key.open_update(file, CONTEXT)))
        opened_s = time.perf_counter() - began
        assert path.stat().st_size == sealed_size(opened)
        return {
            "bytes": opened,
            "seal_mb_per_s": round(opened / 1e6 / sealed_s),
            "open_mb_per_s": round(opened / 1e6 / opened_s),
            "memory_mb": round(peak_mb() - before, 1),
            "larger_percent": round(100 * (sealed_size(opened) / opened - 1), 3),
        }


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    rows = []
    print("size/MiB  seal MB/s  open MB/s  more memory/MB  larger/%")
    for size in SIZES_MB:
        command = [sys.executable, "-m", "benchmarks.sealing", str(size)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        print(
            f"{size:8}  {row['seal_mb_per_s']:9}  {row['open_mb_per_s']:9}  {row['memory_mb']:14}  "
            f"{row['larger_percent']:8}"
        )
    print(json.dumps({"benchmark": "sealing", "rows": rows}))


if __name__ == "__main__":
    main()
