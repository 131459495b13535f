# ruff: noqa: INP001 - docs/ is no package
"""The README's picture of `midge monitor`, from a demo that runs: `python -m docs.screens`."""

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
SIZE = (120, 30)
ROUND, LATE = 10, 18
PATIENCE_S = 300.0


def main() -> None:
    """Start a demo, look at it until enough rounds are over, and write what stands on the screen."""
    # The demo is found by this folder, and no other is.
    with tempfile.TemporaryDirectory(prefix="midge-screens-") as runtime, _demo(runtime) as demo:
        try:
            broker = demo_settings(Role.OPERATOR, PATIENCE_S).broker
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_text(asyncio.run(_picture(Feed(broker), demo)), encoding="utf-8")
        finally:
            demo.terminate()
    print(PICTURE)  # noqa: T201


def _demo(runtime: str) -> "subprocess.Popen[bytes]":
    os.environ["XDG_RUNTIME_DIR"] = runtime
    return subprocess.Popen([sys.executable, "-m", "deploy.command.entry", "demo"], stdout=subprocess.DEVNULL)


async def _picture(feed: Feed, demo: "subprocess.Popen[bytes]") -> str:
    """The screen while a round trains."""
    deadline = time.monotonic() + PATIENCE_S
    with feed:
        app = Monitor(feed, feed.settings, timeout_s=1.0)
        async with app.run_test(size=SIZE) as pilot:
            while not _worth_showing(feed):
                if demo.poll() is not None or time.monotonic() > deadline:
                    raise ChildError(f"the demo did not come to round {ROUND}")
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
    """Rounds are short: soon there is a moment in which a device is seen to train, or it is late."""
    run, devices = feed.view.run, feed.view.devices.values()
    trains = any(device.state == "training" and device.progress > 0 for device in devices)
    return run is not None and (run.round >= LATE or (run.round >= ROUND and trains))


if __name__ == "__main__":
    main()
