"""The dashboard while real devices train: what it shows follows the run without a reload."""

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.deploy.dashboard.browser import browsing, dashboard, missing_browser
from tests.system.lab import Lab

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=missing_browser() or "")


TASK = Path(__file__).with_name("softmax_task.py")


@pytest.mark.timeout(240)
def test_a_run_is_followed_to_its_end_without_a_reload(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    with dashboard(lab.account("monitor"), page) as url, browsing(tmp_path / "profile", url) as browser:
        browser.until_text("Nothing is said of federation", ".notices")
        browser.run("window.stayed = true")
        # One without Keras: its loading would take longest.
        lab.start_aggregator(TASK)
        lab.start_agents("pi-1", "pi-2")
        browser.until_text("pi-2", ".card")
        run = lab.start_run(rounds=3, min_devices=2, batch_size=16)
        browser.until_text(run, ".fields")
        lab.until_ended(run)
        browser.until_text("finished", ".fields")
        browser.until_text("2 of 2 updates", ".panel")
        drawn = browser.driver.find_elements(By.CSS_SELECTOR, ".chart")
        browser.until(lambda: "by round, 1 to 3" in str(drawn[0].get_attribute("aria-label")))
        browser.until_text("red", ".matrix")
        assert browser.run("return window.stayed") is True
        assert browser.console() == []
