"""Links with weather: TCP relays that delay, throttle, cut, and leave connections half-open."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

# A throttled relay holds no more than this back at a time.
BLOCK_BYTES = 1 << 10
CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Slowness:
    """What each block of a link waits for."""

    delay_s: float = 0.0
    bytes_per_s: float = float("inf")

    def seconds(self, size: int) -> float:
        return self.delay_s + size / self.bytes_per_s


FINE = Slowness()


@dataclass(slots=True)
class _Pair:
    """A connection and its continuation; half-open, what one end sends never reaches the other."""

    client: socket.socket
    server: socket.socket
    half_open: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class Weather:
    """One link to `port` on the loopback interface: connections to `self.port` are relayed there."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._guard = threading.Lock()
        self._slowness = FINE
        threading.Thread(target=self._accept, daemon=True).start()

    def slow(self, slowness: Slowness) -> None:
        """From now on, until it is set to FINE."""
        self._slowness = slowness

    def cut(self) -> int:
        """End all connections, both sides hear of it; how many there were."""
        pairs = [pair for pair in self._open() if not pair.half_open]
        for pair in pairs:
            _shut(pair.client)
            _shut(pair.server)
        return len(pairs)

    def leave_half_open(self) -> int:
        """Swallow all that present connections still carry, their end included; how many there were."""
        pairs = [pair for pair in self._open() if not pair.half_open]
        for pair in pairs:
            pair.half_open = True
        return len(pairs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake who waits in accept.
        _shut(self._listener)
        self._listener.close()
        for pair in self._open():
            _shut(pair.client)
            _shut(pair.server)

    def _open(self) -> list[_Pair]:
        with self._guard:
            self._pairs = [pair for pair in self._pairs if not pair.ended.is_set()]
            return list(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), CONNECT_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = _Pair(client, server)
            with self._guard:
                self._pairs.append(pair)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._relay, args=(pair, source, sink), daemon=True).start()

    def _relay(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if (wait_s := self._slowness.seconds(len(block))) > 0:
                    time.sleep(wait_s)
                if not pair.half_open:
                    sink.sendall(block)
        if not pair.half_open:
            _shut(sink)
        source.close()
        if sink.fileno() < 0:
            pair.ended.set()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
