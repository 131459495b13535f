"""Devices that an operator excluded: noted in the ledger, and not heard, whatever broker they are on."""

import logging
from collections.abc import Callable

from aggregator.coordinator.events import Event, ExcludeDevice
from aggregator.coordinator.fleet import MAX_DEVICES
from aggregator.ledger import Ledger
from aggregator.records import DeviceAdmitted, DeviceExcluded
from broker.events import Received
from broker.topics import PRESENCE, Branch
from host.errors import DataError

log = logging.getLogger(__name__)


class Exclusions:
    """Who is excluded.

    `clear` takes off the broker what a device, or we of it, retained there. `ask` has the broker say again
    what it retains of a device: its birth was not heard meanwhile. `forget_key` has a device known by
    whatever key it signs with next.
    """

    def __init__(
        self,
        ledger: Ledger,
        tell: Callable[[Event], None],
        clear: Callable[[str], None],
        ask: Callable[[str], None],
        forget_key: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._clear = clear
        self._ask = ask
        self._forget_key = forget_key
        self._reasons = ledger.excluded()

    def __contains__(self, device: str) -> bool:
        return device in self._reasons

    def restored(self) -> None:
        """The coordinator of an earlier process may still count on them."""
        for device, reason in self._reasons.items():
            self._tell(ExcludeDevice(device, reason))

    def exclude(self, device: str, reason: str) -> str:
        """Hear nothing of a device from now on; what is to be said of it.

        Raises NoRoomError, and DataError when too many are.
        """
        if device not in self._reasons and len(self._reasons) >= MAX_DEVICES:
            raise DataError(f"{MAX_DEVICES} devices are excluded: admit some before you exclude {device}")
        self._ledger.commit((DeviceExcluded(device, reason),), None)
        self._reasons[device] = reason
        self._tell(ExcludeDevice(device, reason))
        self._clear(device)
        return f"{device} is excluded: nothing of it is heard"

    def admit(self, device: str) -> str:
        """Hear a device, also one that was set up anew; what is to be said of it. Raises NoRoomError."""
        self._forget_key(device)
        said = f"{device} was not excluded"
        if device in self._reasons:
            self._ledger.commit((DeviceAdmitted(device),), None)
            del self._reasons[device]
            said = f"{device} is heard again"
        self._ask(device)
        return said

    def heard(self, device: str, branch: Branch, message: Received) -> None:
        """Something of an excluded device: a broker that was killed brings its presence back."""
        if branch is PRESENCE and message.retained and message.payload:
            self._clear(device)
        else:
            text = "dropped a message of %s, which is excluded, on %s"
            log.debug(text, device, message.topic, extra={"device": device})
