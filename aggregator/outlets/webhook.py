"""Sends notices to a URL: from a thread of its own, a few times, and never where a redirect leads."""

import contextlib
import hashlib
import hmac
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from aggregator.outlets.notice import Notice
from aggregator.settings import AggregatorSettings
from host.errors import ConfigError
from host.inbox import Inbox

QUEUED = 100
TIMEOUT_S = 10.0
# After each attempt but the last.
PAUSES_S = (1.0, 5.0, 25.0)
FAREWELL_S = 5.0
MAX_SECRET_BYTES = 4096
SIGNATURE = "X-Midge-Signature"
AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

log = logging.getLogger(__name__)


class Target(NamedTuple):
    """Where notices go, with a bearer `token`, and signed by HMAC-SHA256 with `key`, where there are any."""

    url: str
    token: str | None = None
    key: bytes | None = None

    @classmethod
    def of(cls, settings: AggregatorSettings) -> "Target":
        """Of settings that have a `webhook_url`, with what is secret read; raises ConfigError."""
        assert settings.webhook_url is not None
        files = (settings.webhook_token_file, settings.webhook_key_file)
        token, key = (None if file is None else _secret(file) for file in files)
        return cls(settings.webhook_url, token, None if key is None else key.encode())

    def request(self, notice: Notice, version: str) -> urllib.request.Request:
        """The POST of a notice."""
        body = notice.model_dump_json().encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"midge/{version}"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.key is not None:
            headers[SIGNATURE] = f"sha256={hmac.new(self.key, body, hashlib.sha256).hexdigest()}"
        return urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - settings checked it


class Webhook:
    """`send` returns at once; what finds the queue full is dropped, and the log says so."""

    def __init__(self, target: Target, version: str, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._target = target
        self._version = version
        self._pauses_s = (*pauses_s, None)
        # The rest of the URL may be a secret.
        self._host = urlsplit(target.url).hostname
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._notices: Inbox[Notice | None] = Inbox(QUEUED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def send(self, notice: Notice) -> None:
        """Have a notice sent."""
        if not self._notices.put(notice, droppable=True):
            log.warning("webhook: %d notices wait; not sent: %s", QUEUED, notice.text)

    def close(self) -> None:
        """Try once more, shortly, what waits; what does not arrive then is lost."""
        self._notices.put(None)
        self._stopping.set()
        self._thread.join(FAREWELL_S)

    def _work(self) -> None:
        while (notice := self._notices.get(None)) is not None:
            try:
                self._deliver(notice)
            except Exception:
                log.exception("webhook: not sent: %s", notice.text)

    def _deliver(self, notice: Notice) -> None:
        for pause_s in self._pauses_s:
            failure = self._attempt(notice)
            if failure is None:
                return
            if pause_s is None or not failure.again or self._stopping.wait(pause_s):
                log.warning("webhook: %s %s; not sent: %s", self._host, failure.why, notice.text)
                return

    def _attempt(self, notice: Notice) -> "_Failure | None":
        try:
            with self._opener.open(self._target.request(notice, self._version), timeout=TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return _answered(error.code)
        except (OSError, ValueError, HTTPException) as error:
            # The library's own words can hold the URL.
            reason = getattr(error, "reason", error)
            why = getattr(reason, "strerror", None) or type(reason).__name__
            return _Failure(f"cannot be reached: {why}", again=True)


class _Failure(NamedTuple):
    why: str
    again: bool


def _answered(code: int) -> _Failure:
    if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        return _Failure(f"redirects ({code}), which is not followed: name the final URL", again=False)
    again = code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in AGAIN
    return _Failure(f"answered {code}", again=again)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - the library's names
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Whoever answers must not choose who else gets the notice and the token."""
        return


def _secret(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SECRET_BYTES + 1)
        secret = content.decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: holds more than a secret in ASCII") from None
    if not secret or len(content) > MAX_SECRET_BYTES or not secret.isprintable():
        raise ConfigError(f"{file}: is to hold one line of 1 to {MAX_SECRET_BYTES} bytes")
    return secret
