"""A real Chromium without a window, and the dashboard as a process."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from broker.settings import BrokerSettings

ROOT = Path(__file__).parents[3]
PATIENCE_S = 30.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PASSWORD = "correct horse"  # noqa: S105  of these tests
DESKTOP, PHONE = (1400, 900), (390, 844)
Result = TypeVar("Result")


def missing_browser() -> str | None:
    """What is not installed, of what these tests need."""
    needed = ("chromium", "chromedriver")
    return next((f"{one} is not installed: make chromium" for one in needed if not shutil.which(one)), None)


class Browser:
    """Chromium, and what it saw."""

    def __init__(self, profile: Path) -> None:
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))

    def close(self) -> None:
        self.driver.quit()

    def open(self, url: str) -> None:
        self.driver.get(url)

    def run(self, script: str) -> Any:  # noqa: ANN401  whatever the script returns
        return self.driver.execute_script(script)

    def look(self, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
        """Have a window of this size, and a user who likes it light or dark."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def text(self, selector: str = "body") -> str:
        script = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText).join(' ')"
        return str(self.driver.execute_script(script, selector))

    def until(self, found: Callable[[], Result], what: str = "", patience_s: float = PATIENCE_S) -> Result:
        """Wait until `found` gives something true."""
        waiting = WebDriverWait(self.driver, patience_s, 0.1, [StaleElementReferenceException])
        return waiting.until(lambda _: found(), what)

    def until_text(self, words: str, selector: str = "body") -> None:
        self.until(lambda: words in self.text(selector), f"{words!r} did not appear in {selector}")

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]  # selenium's

    def console(self) -> list[str]:
        """What was written to the console since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> set[str]:
        """The addresses that pages asked for since the last call; not what the browser shows of its own."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        kinds = {"Network.requestWillBeSent": "request", "Network.webSocketCreated": None}
        found = set()
        for message in messages:
            if message["method"] in kinds:
                inner = kinds[message["method"]]
                parameters = message["params"]
                found.add((parameters[inner] if inner else parameters)["url"])
        return {url for url in found if not url.startswith(("chrome:", "data:"))}


@contextmanager
def dashboard(broker: BrokerSettings, folder: Path) -> Iterator[str]:
    """The dashboard as a process, with a login; yields its address."""
    config = folder / "operator.toml"
    given = broker.model_dump(mode="json", exclude_defaults=True) | {"reconnect_max_s": 0.5}
    config.write_text(
        "[broker]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    )
    (folder / "password").write_text(f"{PASSWORD}\n")
    command = [sys.executable, "-m", "deploy.command.entry", "dashboard", "--config", str(config)]
    own = [
        "--listen",
        "127.0.0.1:0",
        "--state",
        str(folder / "state"),
        "--login-file",
        str(folder / "password"),
    ]
    # NiceGUI behaves otherwise where it believes to be tested.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MIDGE"))}
    with subprocess.Popen(
        [*command, *own],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            assert found is not None, line + process.stderr.read()
            yield found[0]
        finally:
            process.terminate()
            rest = process.communicate(timeout=PATIENCE_S)[1]
            sys.stderr.write(rest)
    assert (process.returncode, "Traceback" in rest) == (0, False), rest


@contextmanager
def browsing(profile: Path, url: str) -> Iterator[Browser]:
    """A browser that is logged in."""
    browser = Browser(profile)
    try:
        browser.look()
        browser.open(url)
        log_in(browser, PASSWORD)
        browser.until_text("Devices", "body")
        yield browser
    finally:
        browser.close()


def log_in(browser: Browser, password: str) -> None:
    browser.driver.find_element(By.NAME, "password").send_keys(password)
    browser.driver.find_element(By.TAG_NAME, "button").click()
