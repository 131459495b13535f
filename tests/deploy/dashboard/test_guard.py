"""What the guard lets through, asked without a network: it is a function of a request."""

import asyncio
from urllib.parse import urlencode

import pytest
from starlette.types import Message, Receive, Scope, Send

from deploy.dashboard.door import FREE_ATTEMPTS, Door, digest_of
from deploy.dashboard.guard import COOKIE, HEADERS, MAX_FORM_BYTES, Guard

DOOR = Door(digest_of(b"right"), b"s" * 32)


async def page(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(
    door: Door | None,
    path: str = "/",
    method: str = "GET",
    kind: str = "http",
    body: bytes = b"",
    scheme: str = "http",
    **headers: str,
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer; of a socket: 101, or 403 where it is closed."""
    given = {"host": "127.0.0.1:8600", **headers}
    scope: Scope = {
        "type": kind,
        "method": method,
        "path": path,
        "scheme": scheme,
        "client": ("192.0.2.7", 4000),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(Guard(page, door)(scope, receive, send))
    first = told[0]
    if kind == "websocket":
        return (101 if first["type"] == "websocket.accept" else 403), {}
    return first["status"], {name.decode(): value.decode() for name, value in first["headers"]}


def log_in(door: Door, password: str, **given: str) -> tuple[int, dict[str, str]]:
    return ask(door, "/login", "POST", body=urlencode({"password": password}).encode(), **given)


@pytest.mark.parametrize("path", ["/", "/device/pi-1", "/_nicegui/3/static/nicegui.js", "/logout"])
def test_without_a_ticket_every_path_leads_to_the_login(path: str) -> None:
    status, headers = ask(DOOR, path)
    assert (status, headers["location"]) == (303, "/login")


@pytest.mark.parametrize("cookie", ["", f"{COOKIE}=", f"{COOKIE}=ImluIg.aaaa.bbbb", "=;=", f"{COOKIE}=é"])
def test_a_ticket_that_is_not_ours_is_none(cookie: str) -> None:
    assert ask(DOOR, cookie=cookie)[0] == 303
    assert ask(DOOR, "/_nicegui_ws/socket.io/", kind="websocket", cookie=cookie)[0] == 403


def test_with_a_ticket_pages_and_sockets_are_open_and_every_answer_has_the_headers() -> None:
    cookie = f"{COOKIE}={DOOR.ticket()}"
    status, headers = ask(DOOR, cookie=cookie)
    assert status == 200
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= headers.items()
    assert ask(DOOR, kind="websocket", cookie=cookie)[0] == 101
    assert ask(DOOR, "/login", cookie=cookie)[1]["location"] == "/"


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get() -> None:
    status, headers = log_in(DOOR, "right")
    assert (status, headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert "Secure" not in headers["set-cookie"]
    assert "Secure" in log_in(DOOR, "right", scheme="https")[1]["set-cookie"]


def test_after_five_wrong_passwords_even_the_right_one_waits() -> None:
    door = Door(digest_of(b"right"), b"s" * 32)
    assert [log_in(door, "wrong")[0] for _ in range(FREE_ATTEMPTS)] == [401] * FREE_ATTEMPTS
    assert log_in(door, "right")[0] == 429


def test_attempts_side_by_side_are_no_more_than_one_after_the_other() -> None:
    door = Door(digest_of(b"right"), b"s" * 32)
    statuses: list[int] = []

    async def attempt(all_there: asyncio.Barrier) -> None:
        async def receive() -> Message:
            await all_there.wait()
            return {"type": "http.request", "body": b"password=wrong", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"host", b"127.0.0.1:8600")]
        scope: Scope = {"type": "http", "method": "POST", "path": "/login", "headers": headers}
        await Guard(page, door)(scope, receive, send)

    async def attempts(count: int) -> None:
        all_there = asyncio.Barrier(count)
        await asyncio.gather(*(attempt(all_there) for _ in range(count)))

    asyncio.run(attempts(20))
    assert sorted(statuses) == [401] * FREE_ATTEMPTS + [429] * (20 - FREE_ATTEMPTS)


def test_a_form_without_end_is_cut() -> None:
    door = Door(digest_of(b"right"), b"s" * 32)
    assert ask(door, "/login", "POST", body=b"x" * MAX_FORM_BYTES + b"&password=right")[0] == 401
    assert ask(door, "/login", "POST", body=b"\xff&password=right")[0] == 303


@pytest.mark.parametrize("door", [DOOR, None], ids=["with-login", "without"])
def test_a_page_of_another_site_is_refused_also_where_it_has_a_ticket(door: Door | None) -> None:
    cookie = f"{COOKIE}={DOOR.ticket()}"
    for origin in ("http://elsewhere.example", "http://127.0.0.1:9999", "null", "http://[", ""):
        assert ask(door, cookie=cookie, origin=origin)[0] == 403
        assert ask(door, kind="websocket", cookie=cookie, origin=origin)[0] == 403
    assert ask(door, kind="websocket", cookie=cookie, origin="http://127.0.0.1:8600")[0] == 101


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.4:8600", "", "[", "127.0.0.1.evil.example"])
def test_without_a_login_a_name_that_was_made_to_mean_this_machine_is_refused(host: str) -> None:
    assert ask(None, host=host)[0] == 403
    assert ask(None, host="localhost:8600")[0] == 200
    assert ask(None, host="[::1]:8600")[0] == 200


def test_a_page_that_stays_open_ends_with_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def socket(_scope: Scope, receive: Receive, _send: Send) -> None:
        while not heard or heard[-1] != "websocket.disconnect":
            heard.append((await receive())["type"])
            if len(heard) == 2:
                monkeypatch.setattr("deploy.dashboard.door.SESSION_S", -1.0)

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "3"}

    async def send(_message: Message) -> None:
        raise AssertionError

    headers = [(b"host", b"127.0.0.1:8600"), (b"cookie", f"{COOKIE}={DOOR.ticket()}".encode())]
    asyncio.run(Guard(socket, DOOR)({"type": "websocket", "path": "/", "headers": headers}, receive, send))
    assert heard == ["websocket.receive", "websocket.receive", "websocket.disconnect"]


def test_logging_out_takes_the_cookie_away() -> None:
    status, headers = ask(DOOR, "/logout", "POST", cookie=f"{COOKIE}={DOOR.ticket()}")
    assert (status, headers["location"]) == (303, "/login")
    assert "Max-Age=0" in headers["set-cookie"]
