"""An HTTP server that notices are sent to."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PATIENCE_S = 60.0


class Call(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """A server that answers with these codes, one after the other, then 204; `hold` keeps it waiting."""

    def __init__(self) -> None:
        self.codes: deque[int] = deque()
        self.location = ""
        self.calls: list[Call] = []
        self.hold = threading.Event()
        self.hold.set()
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.took(Call(self.path, dict(self.headers), body))
                receiver.hold.wait(PATIENCE_S)
                self.send_response(receiver.codes.popleft() if receiver.codes else 204)
                self.send_header("Content-Length", "0")
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/secret"

    def took(self, call: Call) -> None:
        with self._came:
            self.calls.append(call)
            self._came.notify_all()

    def until(self, count: int) -> list[Call]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.calls) >= count, PATIENCE_S), self.calls
        return self.calls

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
