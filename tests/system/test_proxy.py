import socket

import pytest

from tests.system.proxy import Link

SAID = bytes(range(256)) * 64


@pytest.mark.parametrize("bytes_per_s", [None, 1e6], ids=["fast", "slow"])
def test_a_link_hands_on_and_counts_what_crosses_until_it_is_cut(bytes_per_s: float | None) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Link(listener.getsockname()[1], bytes_per_s) as link,
        socket.create_connection(("127.0.0.1", link.port), timeout=20) as client,
    ):
        server, _ = listener.accept()
        with server, server.makefile("rb") as heard:
            server.settimeout(20)
            client.sendall(SAID)
            assert heard.read(len(SAID)) == SAID
            link.cut_every(0.01)
            assert client.recv(1) == b""
            assert heard.read() == b""
        assert (link.up, link.down) == (len(SAID), 0)
        assert link.cuts
