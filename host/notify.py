"""Tell systemd how a service is doing: the sd_notify protocol over the socket that $NOTIFY_SOCKET names.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import contextlib
import socket
from collections.abc import Mapping

MAX_STATUS = 200


class Notifier:
    """Says nothing, and costs nothing, where no service manager listens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 2e6 if usec.isdigit() and int(usec) else None
        """How often to call `alive`, in seconds: twice in each period allowed; None: nobody waits for it."""
        self._status = ""

    def ready(self) -> None:
        """Say that starting is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show a line in `systemctl status`; costs nothing when it shows already."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text.replace(chr(10), ' ')[:MAX_STATUS]}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is on its way out."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # A leading @ stands for the zero byte of Linux' abstract sockets.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            ) as sender,
        ):
            sender.sendto(state.encode(), address)
