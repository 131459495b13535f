"""What stands before every page, file and socket: the login, the origin, and the headers."""

import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.dashboard.door import MAX_PASSWORD_BYTES, SESSION_S, Door
from deploy.dashboard.listening import LOOPBACK_NAMES
from deploy.dashboard.markup import render

COOKIE = "midge-dashboard"
LOGIN, LOGOUT = "/login", "/logout"
# A password may be spelled with three characters a byte.
MAX_FORM_BYTES = 4 * MAX_PASSWORD_BYTES
# Vue compiles templates in the browser, and NiceGUI writes scripts and styles into its pages.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
}


class Guard:
    """ASGI middleware; without a door everybody on this machine may look, but no page of another site."""

    def __init__(self, app: ASGIApp, door: Door | None) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or answer instead of it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = await self._answer(scope, receive)
        if answer is None:
            hear = self._while_admitted(scope, receive) if scope["type"] == "websocket" else receive
            await self._app(scope, hear, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """What to say instead of the application; None: it may speak."""
        headers = Headers(scope=scope)
        if not self._is_of_here(headers):
            return PlainTextResponse("refused: the request comes from a page of another site\n", 403)
        if self._door is None:
            return None
        is_in = self._door.admits(_cookie(headers))
        if scope["path"] == LOGIN:
            return await self._login(self._door, scope, receive, is_in=is_in)
        if scope["path"] == LOGOUT and scope.get("method") == "POST":
            return _logged_out()
        return None if is_in else RedirectResponse(LOGIN, 303)

    def _while_admitted(self, scope: Scope, receive: Receive) -> Receive:
        """End a page that stays open when its login does: browsers say something every half a minute."""

        async def hear() -> Message:
            message = await receive()
            if self._door is None or self._door.admits(_cookie(Headers(scope=scope))):
                return message
            return {"type": "websocket.disconnect", "code": 1008}

        return hear

    def _is_of_here(self, headers: Headers) -> bool:
        """Whether no other site sends it: cookies know no ports, and any name can mean this machine."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._door is None and _hostname(host) not in LOOPBACK_NAMES:
            return False
        return origin is None or _place(origin) == host

    async def _login(self, door: Door, scope: Scope, receive: Receive, *, is_in: bool) -> Response:
        if scope.get("method") != "POST":
            return RedirectResponse("/", 303) if is_in else _form()
        address = (scope.get("client") or ("?", 0))[0]
        form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
        # From here on nothing is awaited: of attempts side by side, each sees the ones before.
        now = time.monotonic()
        if (wait_s := door.wait_s(address, now)) > 0:
            return _form(f"Too many wrong passwords: wait {wait_s:.0f} s.", 429)
        if not door.opens(form.get("password", [""])[0], address, now):
            return _form("That is not the password.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            door.ticket(),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=scope.get("scheme") == "https",
        )
        return answer


def _with_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return add


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


async def _body(receive: Receive) -> bytes:
    """A form's body, as far as it may be long."""
    body = b""
    more = True
    while more and len(body) <= MAX_FORM_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body[:MAX_FORM_BYTES]


def _form(trouble: str = "", status: int = 200) -> Response:
    return HTMLResponse(render("login", trouble=trouble), status, {"Cache-Control": "no-store"})


def _logged_out() -> Response:
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
