"""A link that can be cut: a TCP relay between one client and the broker."""

import socket
import threading
from types import TracebackType
from typing import Self

BLOCK_BYTES = 1 << 16


class Link:
    """Relays connections to `port` on the loopback interface, and counts the bytes that cross."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.down = 0
        self.up = 0
        self.cuts = 0
        self._cut_at: dict[str, int] = {}
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_once(self, direction: str, after_bytes: int) -> None:
        """Cut the link as soon as this many bytes have gone "up" or "down"."""
        self._cut_at[direction] = after_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._open = [client, server]
            threading.Thread(target=self._relay, args=(client, server, "up"), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, "down"), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            while block := source.recv(BLOCK_BYTES):
                sink.sendall(block)
                self._count(direction, len(block))
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

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
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
