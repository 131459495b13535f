"""What devices say to the aggregator alone: opened, and known to be theirs by the key that they sign with.

A device is known by the key that the settings name or, without one, by the first that it used, which the
ledger keeps.
"""

import logging
import time
from collections.abc import Mapping
from typing import TypeVar

from aggregator.coordinator.fleet import MAX_DEVICES
from aggregator.ledger import Ledger
from broker.envelope import disclose
from broker.messages import Message, Presence
from broker.sealing import SealingKey
from broker.wire import decode
from host.errors import ForgeryError, SealError, StorageError, WireError

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)


class DeviceKeys:
    """By which key each device is known; `configured` goes before what the ledger has."""

    def __init__(self, ledger: Ledger, configured: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._configured = configured
        self._known = {**ledger.device_keys(), **configured}

    def check(self, device: str, key: str) -> None:
        """Raise ForgeryError for another key than the device's; the first one that it uses becomes its own.

        Raises WireError where the ledger cannot keep that: the device will say it again.
        """
        known = self._known.get(device)
        if known is None:
            self._pin(device, key)
        elif known != key:
            raise ForgeryError(
                f"it is signed with key {key}, and {device} is known by {known[:8]}...; if the device was "
                f"set up anew: midge admit {device}, or put the new key under device_keys in the "
                "aggregator's settings; else somebody speaks in its name"
            )

    def forget(self, device: str) -> None:
        """Let the next key that a device uses be its own, unless the settings name one.

        Raises StorageError.
        """
        self._ledger.forget_device_key(device)
        if device not in self._configured:
            self._known.pop(device, None)

    def _pin(self, device: str, key: str) -> None:
        if len(self._known) >= MAX_DEVICES:
            raise WireError(f"{len(self._known)} devices are known by their keys, and no more can be")
        try:
            self._ledger.pin_device_key(device, key, time.time())
        except StorageError as error:
            raise WireError(f"the device's key cannot be kept now: {error}") from None
        self._known[device] = key
        log.info("%s is known by key %s from now on", device, key, extra={"device": device})


class Letters:
    """Reads messages of devices: sealed ones where there is a key to open them, else as they are."""

    def __init__(self, key: SealingKey | None, devices: DeviceKeys) -> None:
        self._key = key
        self._devices = devices

    def read(self, kind: type[M], topic: str, device: str, payload: bytes) -> M:
        """What a device said on this full topic; raises WireError, also for what should be sealed."""
        if self._key is None:
            return decode(kind, payload)
        key, message = disclose(kind, topic, payload, self._key)
        self._devices.check(device, key)
        return message

    def presence(self, topic: str, device: str, payload: bytes) -> Presence:
        """A birth or a death; of one that is not sealed only that much counts. Raises WireError."""
        told = decode(Presence, payload)
        if self._key is None:
            return told
        if told.sealed is None:
            return Presence(online=told.online, connection=told.connection)
        birth = self.read(Presence, topic, device, told.sealed)
        if (birth.online, birth.connection) != (told.online, told.connection):
            raise SealError("the birth that is sealed in it is of another connection")
        return birth
