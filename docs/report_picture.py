# ruff: noqa: INP001 - docs/ is no package
"""Draw the page's picture of a report: `python -m docs.report_picture`, from a real demo run.

Needs Chromium, and a minute. Nothing is drawn by hand.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from deploy.report.making import make_report

PICTURE = Path(__file__).parent / "pictures" / "report.png"
DEMO = ("--devices", "6", "--rounds", "20")
SIZE = (1100, 1290)
SHOWN = 0.75
COLOURS = 256
LIMIT_BYTES = 150_000


def main() -> None:
    """Hold a demo, make its report, and have a browser show the top of it."""
    with tempfile.TemporaryDirectory(prefix="midge-picture-") as name:
        kept, page, shot = (Path(name) / part for part in ("kept", "report.html", "shot.png"))
        demo = [sys.executable, "-m", "deploy.command.entry", "demo", *DEMO, "--keep", str(kept)]
        subprocess.run(demo, check=True)  # noqa: S603  our own words
        run = next((kept / "aggregator" / "runs").iterdir()).name
        make_report(kept / "aggregator", run, page)
        _shoot(page, shot)
        with Image.open(shot) as image:
            smaller = image.convert("RGB").resize([round(SHOWN * side) for side in SIZE])
            smaller.quantize(COLOURS).save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    sys.stdout.write(f"{PICTURE}: {size} bytes\n")
    if size > LIMIT_BYTES:
        raise SystemExit(f"{PICTURE} is larger than {LIMIT_BYTES} bytes")


def _shoot(page: Path, shot: Path) -> None:
    width, height = SIZE
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    arguments = [f"--window-size={width},{height}", f"--screenshot={shot}", page.as_uri()]
    subprocess.run([*chromium, *arguments], check=True, capture_output=True)  # noqa: S603  our own words


if __name__ == "__main__":
    main()
