# ruff: noqa: INP001 - docs/ is no package
"""The README's picture of `midge monitor`, from a demo that runs: `python -m docs.screens MNIST`.

MNIST is the folder with its four IDX files: its rounds take long enough to see devices at work.
Needs two minutes.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from broker.topics import Role
from deploy.command.options import demo_settings
from deploy.monitor.app import Monitor
from deploy.viewing.feed import Feed
from host.errors import ChildError

PICTURE = Path(__file__).parent / "pictures" / "screens" / "monitor.svg"
SIZE = (120, 24)
DEVICES, ROUNDS, DRAWN_AT = 6, 10, 6
AMID = 0.4, 0.9
PATIENCE_S = 900.0


def main() -> None:
    """Start a demo, look at it until enough rounds are over, and write what stands on the screen."""
    if len(sys.argv) != 2:  # noqa: PLR2004  one argument
        raise SystemExit(__doc__)
    # The demo is found by this folder, and no other is.
    with tempfile.TemporaryDirectory(prefix="midge-screens-") as runtime, _demo(runtime, sys.argv[1]) as demo:
        try:
            broker = demo_settings(Role.OPERATOR, PATIENCE_S).broker
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_text(asyncio.run(_picture(Feed(broker, demo=True), demo)), encoding="utf-8")
        finally:
            demo.terminate()
    print(PICTURE)  # noqa: T201


def _demo(runtime: str, data: str) -> "subprocess.Popen[bytes]":
    os.environ["XDG_RUNTIME_DIR"] = runtime
    options = ("--data", data, "--devices", str(DEVICES), "--rounds", str(ROUNDS))
    command = [sys.executable, "-m", "deploy.command.entry", "demo", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  our own


async def _picture(feed: Feed, demo: "subprocess.Popen[bytes]") -> str:
    """The screen while a round trains."""
    deadline = time.monotonic() + PATIENCE_S
    with feed:
        app = Monitor(feed, feed.settings, timeout_s=1.0)
        async with app.run_test(size=SIZE) as pilot:
            while not _worth_showing(feed):
                if demo.poll() is not None or time.monotonic() > deadline:
                    raise ChildError(f"no device was seen to train from round {DRAWN_AT} on")
                await pilot.pause(0.05)
            app.look()
            await pilot.pause()
            # It would fetch a font from elsewhere: any of fixed width does.
            return re.sub(
                r"@font-face {.*?}\s*",
                "",
                app.export_screenshot(title="midge monitor --demo"),
                flags=re.DOTALL,
            )


def _worth_showing(feed: Feed) -> bool:
    """Whether a later round trains, and most devices are in the midst of it."""
    run = feed.view.run
    if run is None or run.round < DRAWN_AT or run.state != "training":
        return False
    devices = feed.view.devices.values()
    return sum(one.state == "training" and AMID[0] < one.progress < AMID[1] for one in devices) > DEVICES / 2


if __name__ == "__main__":
    main()
