"""A link that can be slow and be cut: a TCP relay between one client and the broker."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

BLOCK_BYTES = 1 << 16
# Of a slow link: small, for what waits shall wait in the sender, as before a modem.
SLOW_BLOCK_BYTES = 4 << 10
SLOW_BUFFER_BYTES = 16 << 10


class Link:
    """Relays connections to `port` on the loopback interface, and counts the bytes that cross.

    With `bytes_per_s`, no more than that cross each way.
    """

    def __init__(self, port: int, bytes_per_s: float | None = None) -> None:
        self._target = port
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Accepted sockets have the listener's buffers.
        self._be_slow(self._listener)
        self.port: int = self._listener.getsockname()[1]
        self.down = 0
        self.up = 0
        self.cuts = 0
        self._cut_at: dict[str, int] = {}
        self._open: list[socket.socket] = []
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_once(self, direction: str, after_bytes: int) -> None:
        """Cut the link as soon as this many bytes have gone "up" or "down"."""
        self._cut_at[direction] = after_bytes

    def cut_every(self, seconds: float) -> None:
        """Cut the link again and again, from now on."""
        threading.Thread(target=self._keep_cutting, args=(seconds,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._listener.close()
        self._cut()

    def _keep_cutting(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            self.cuts += 1
            self._cut()

    def _be_slow(self, end: socket.socket) -> None:
        if self._bytes_per_s is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SLOW_BUFFER_BYTES)

    def _connect(self) -> socket.socket:
        server = socket.socket()
        self._be_slow(server)
        server.connect(("127.0.0.1", self._target))
        return server

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            self._open = [client, server]
            threading.Thread(target=self._relay, args=(client, server, "up"), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, "down"), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        rate, free_at = self._bytes_per_s, 0.0
        try:
            while block := source.recv(SLOW_BLOCK_BYTES if rate else BLOCK_BYTES):
                if rate:
                    free_at = max(free_at, time.monotonic()) + len(block) / rate
                    time.sleep(max(0.0, free_at - time.monotonic()))
                sink.sendall(block)
                self._count(direction, len(block))
        except OSError:
            pass
        finally:
            _shut(source, sink)
            source.close()
            sink.close()

    def _count(self, direction: str, size: int) -> None:
        if direction == "up":
            self.up += size
        else:
            self.down += size
        crossed = self.up if direction == "up" else self.down
        if crossed >= self._cut_at.get(direction, crossed + 1):
            del self._cut_at[direction]
            self.cuts += 1
            self._cut()

    def _cut(self) -> None:
        _shut(*self._open)


def _shut(*ends: socket.socket) -> None:
    """Wake who reads from these: closing alone does not, and the connection would stand."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
