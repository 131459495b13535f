"""The dashboard in a real browser, on a real Mosquitto; what it shows is published by a stage."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

import pytest
from selenium.webdriver.common.by import By

from broker.happenings import EventKind, Severity
from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics
from tests.deploy.dashboard.browser import (
    DESKTOP,
    PASSWORD,
    PHONE,
    Browser,
    browsing,
    dashboard,
    log_in,
    missing_browser,
)
from tests.deploy.dashboard.sight import faint, nameless
from tests.deploy.dashboard.stage import RUN, Stage, staged

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=missing_browser() or "")

DEVICES = 8
STATUS = ".bar-top .status"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    users = {"aggregator": Role.AGGREGATOR, "monitor": Role.MONITOR}
    with Mosquitto(tmp_path_factory.mktemp("mosquitto"), Topics("garden"), users) as started:
        yield started


@pytest.fixture(scope="module")
def on_stage(broker: Mosquitto) -> Iterator[Stage]:
    with staged(broker) as stage:
        yield stage


@pytest.fixture
def stage(on_stage: Stage) -> Stage:
    """A run in its sixth round."""
    on_stage.begin(DEVICES)
    return on_stage


@pytest.fixture(scope="module")
def url(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dashboard(broker.settings("monitor"), tmp_path_factory.mktemp("dashboard")) as address:
        yield address


@pytest.fixture(scope="module")
def logged_in(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("chromium"), url) as browser:
        yield browser


@pytest.fixture
def browser(logged_in: Browser, url: str) -> Iterator[Browser]:
    """One whose pages ask nobody but the dashboard, and complain of nothing."""
    logged_in.look()
    logged_in.console()
    logged_in.requests()
    yield logged_in
    assert logged_in.console() == []
    asked = logged_in.requests()
    assert asked
    assert {urlsplit(one).netloc for one in asked} == {urlsplit(url).netloc}


@pytest.mark.usefixtures("stage")
def test_the_overview_shows_the_round_the_devices_the_metrics_and_what_happened(
    browser: Browser, url: str
) -> None:
    browser.open(url)
    browser.until_text(RUN)
    browser.until_text("2 of 8 updates", ".panel")
    assert "7\nof 8 devices live" in browser.text(".panel")
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, ".lanes tbody tr")) == DEVICES + 1
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, ".matrix tbody tr")) == 10
    browser.until_text("pi-002 rejected", ".events")
    browser.until(lambda: len(browser.driver.find_elements(By.CSS_SELECTOR, ".chart svg path")) > 20)
    drawn = [
        one.get_attribute("aria-label") for one in browser.driver.find_elements(By.CSS_SELECTOR, ".chart")
    ]
    assert [str(one).partition(",")[0] for one in drawn] == [
        "Metrics by round",
        "Loss by round",
        "Bytes by round",
    ]
    assert browser.text(STATUS) == "live"


def test_what_is_published_appears_without_a_reload(browser: Browser, stage: Stage, url: str) -> None:
    browser.open(url)
    browser.until_text("pi-001", ".card")
    browser.run("window.stayed = true")
    stage.tell_device(1, "evaluating", 0.42)
    browser.until_text("evaluating", ".card")
    browser.until_text("42 %", ".card")
    stage.tell_event("pi-001 was too hot", EventKind.DECLINED, Severity.WARNING)
    browser.until_text("pi-001 was too hot", ".events")
    stage.tell_round(6, DEVICES, is_open=False)
    browser.until_text("completed", ".round")
    assert browser.run("return window.stayed") is True


def test_the_page_of_a_device_shows_its_fields_curves_steps_and_events(
    browser: Browser, stage: Stage, url: str
) -> None:
    browser.open(url)
    browser.until(lambda: browser.driver.find_elements(By.CSS_SELECTOR, ".card[href='/device/pi-003']"))[
        0
    ].click()
    browser.until_text("camera", ".fields")
    browser.until_text("round 5", ".lanes")
    assert "reliable: 5 of 6 rounds" in browser.text(".pair")
    stage.tell_device(3, "lost")
    browser.until_text("lost", ".pair")
    browser.open(f"{url}device/nobody")
    browser.until_text("knows no device nobody")


def test_it_says_that_the_aggregator_is_offline_until_it_is_back(
    browser: Browser, stage: Stage, url: str
) -> None:
    browser.open(url)
    browser.until_text("live", STATUS)
    stage.tell_aggregator(online=False)
    browser.until_text("The aggregator is offline", ".notices")
    assert browser.text(STATUS) == "not live"
    stage.tell_aggregator()
    browser.until(lambda: browser.text(STATUS) == "live" and browser.text(".notices") == "")


def test_it_says_that_the_broker_is_gone_and_goes_on_when_it_is_back(
    browser: Browser, stage: Stage, broker: Mosquitto, url: str
) -> None:
    browser.open(url)
    browser.until_text("2 of 8 updates", ".panel")
    browser.run("window.stayed = true")
    broker.stop()
    browser.until_text("No connection to mqtt://", ".notices")
    assert "2 of 8 updates" in browser.text(".panel")
    broker.start()
    stage.await_connection()
    stage.begin(DEVICES)
    stage.tell_device(2, "evaluating")
    browser.until_text("evaluating", ".card")
    browser.until(lambda: browser.text(STATUS) == "live")
    assert browser.run("return window.stayed") is True


@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize("page", ["", "device/pi-003"], ids=["overview", "device"])
def test_a_phone_shows_one_column_without_scrolling_sideways(browser: Browser, url: str, page: str) -> None:
    browser.look(PHONE)
    browser.open(url + page)
    browser.until_text("pi-003")
    browser.until_text("round 5" if page else "2 of 8 updates", ".panel")
    assert browser.run("return document.documentElement.scrollWidth") == PHONE[0]
    edges = browser.run(
        "return [...document.querySelectorAll('.panel')].map(one => one.getBoundingClientRect())"
        ".map(box => [Math.round(box.left), Math.round(box.right)])"
    )
    assert len(edges) > 4
    assert len({tuple(edge) for edge in edges}) == 1


@pytest.mark.parametrize("page", ["", "device/pi-003"], ids=["overview", "device"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_and_picture_has_a_name(
    browser: Browser, stage: Stage, url: str, page: str, scheme: str
) -> None:
    browser.look(DESKTOP, scheme)
    browser.open(url + page)
    browser.until(lambda: len(browser.driver.find_elements(By.CSS_SELECTOR, ".chart svg text")) > 20)
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 25)"
    assert dark == (scheme == "dark")
    stage.tell_aggregator(online=False)
    browser.until_text("offline", ".notices")
    assert faint(browser) == []
    assert nameless(browser) == []


def test_five_hundred_devices_are_paged_found_and_kept_up_to_date(
    browser: Browser, stage: Stage, url: str
) -> None:
    stage.begin(500)
    browser.look(PHONE)
    browser.open(url)
    browser.until_text("page 1 of 21", ".pages")
    browser.until(lambda: len(browser.driver.find_elements(By.CSS_SELECTOR, ".squares a")) == 500)
    assert browser.run("return document.documentElement.scrollWidth") == PHONE[0]
    browser.look()
    shown = "return [...document.querySelectorAll('.card')].filter(one => one.checkVisibility()).length"
    assert browser.run(shown) == 24
    browser.driver.find_elements(By.CSS_SELECTOR, ".pages button")[1].click()
    browser.until_text("pi-024", ".card")
    browser.driver.find_element(By.CSS_SELECTOR, ".tools input[type=search]").send_keys("pi-49")
    browser.until_text("10 of 500", ".panel")
    assert browser.run(shown) == 10
    stage.tell_device(497, "evaluating", 0.77)
    browser.until_text("77 %", ".card")
    # Of forty lanes and a page of cards, not of five hundred of each.
    assert browser.run("return document.querySelectorAll('.lanes tbody tr').length") == 41
    assert browser.run("return document.querySelectorAll('*').length") < 3500


def test_nobody_comes_in_without_the_password(url: str, browser: Browser) -> None:
    place = urlsplit(url).netloc

    def ask(method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(place, timeout=10)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    for path in ("/", "/device/pi-001", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        answer = ask("GET", path)
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert ask("GET", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket", **upgrade, **key).status == 403
    assert ask("POST", "/login", urlencode({"password": "guess"})).status == 401
    answer = ask("POST", "/login", urlencode({"password": PASSWORD}))
    assert answer.status == 303
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    behind_tls = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    secure = ask("POST", "/login", urlencode({"password": PASSWORD}), **behind_tls)
    assert "Secure" in secure.headers["Set-Cookie"]
    assert ask("GET", "/", Cookie=cookie.partition(";")[0]).status == 200
    assert ask("GET", "/", Cookie=cookie.partition(";")[0], Origin="http://elsewhere").status == 403
    browser.requests()
    browser.open(url)


def test_who_logs_out_has_to_log_in_again(logged_in: Browser, url: str) -> None:
    logged_in.open(url)
    logged_in.until(lambda: logged_in.driver.find_elements(By.CSS_SELECTOR, ".bar-top button"))[0].click()
    logged_in.until(lambda: logged_in.driver.current_url.endswith("/login"))
    for scheme in ("light", "dark"):
        logged_in.look(PHONE, scheme)
        assert faint(logged_in) == []
    log_in(logged_in, "guess")
    logged_in.until_text("That is not the password")
    log_in(logged_in, PASSWORD)
    logged_in.until_text("Devices")
