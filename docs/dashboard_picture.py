# ruff: noqa: INP001 - docs/ is no package
"""Draw the README's pictures of the dashboard during a real demo: `python -m docs.dashboard_picture MNIST`.

MNIST is the folder with its four IDX files: its rounds take long enough to see devices at work. Needs some
minutes, Chromium and chromedriver (make chromium). Nothing is drawn by hand.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.dashboard.browser import Browser

PICTURES = Path(__file__).parent / "pictures"
SIZE = (1360, 1180)
DEVICES, ROUNDS, DRAWN_AT = 6, 10, 7
WELL_BEGUN = 25
LIMIT_BYTES = 300_000
PATIENCE_S = 900.0
MIDGE = (sys.executable, "-m", "deploy.command.entry")


def main() -> None:
    """Start a demo and a dashboard of it, and take a picture by day and one by night."""
    if len(sys.argv) != 2:  # noqa: PLR2004  one argument
        raise SystemExit(__doc__)
    data = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory(prefix="midge-picture-") as name:
        folder = Path(name)
        environment = {**os.environ, "XDG_RUNTIME_DIR": name}
        with _demo(data, environment) as demo, _dashboard(folder, environment) as url:
            _draw(folder / "profile", url, demo)


def _draw(profile: Path, url: str, demo: "subprocess.Popen[bytes]") -> None:
    browser = Browser(profile)
    try:
        browser.look(SIZE)
        browser.open(url)
        browser.until(lambda: demo.poll() is not None or _is_worth_it(browser), patience_s=PATIENCE_S)
        if demo.poll() is not None:
            raise SystemExit("no such moment came: is the machine busy?")
        for scheme, path in (("light", "dashboard.png"), ("dark", "dashboard-dark.png")):
            browser.look(SIZE, scheme)
            browser.driver.save_screenshot(str(PICTURES / path))
            size = (PICTURES / path).stat().st_size
            print(f"{PICTURES / path}: {size} bytes")  # noqa: T201
            if size > LIMIT_BYTES:
                raise SystemExit(f"{path} is larger than {LIMIT_BYTES} bytes")
    finally:
        browser.close()


def _is_worth_it(browser: Browser) -> bool:
    """Whether some rounds are over, and the first devices are in the middle of their training."""
    found = re.search(r"\d+", browser.text(".round .figure b"))
    progress = re.search(r"(\d+) %", browser.text(".cards"))
    late = found is not None and int(found[0]) >= DRAWN_AT
    return late and progress is not None and int(progress[1]) >= WELL_BEGUN


@contextmanager
def _demo(data: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [*MIDGE, "demo", "--devices", str(DEVICES), "--rounds", str(ROUNDS), "--data", str(data)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: S603  our own
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _dashboard(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    command = [*MIDGE, "dashboard", "--demo", "--no-login", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(  # noqa: S603  our own
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stderr)), None)
            if found is None:
                raise SystemExit("the dashboard did not start")
            yield found[0]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
