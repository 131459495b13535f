"""Who is alive: births and deaths are hints, heartbeats prove life."""

from dataclasses import dataclass

from broker.messages import Heartbeat, Presence

MAX_DEVICES = 10_000
MISSED_HEARTBEATS = 3


@dataclass(slots=True)
class Device:
    """What is known of a device; times in seconds of the coordinator's clock."""

    presence: Presence
    heard_at: float
    born_at: float
    presumed_until: float = 0.0
    heartbeat: Heartbeat | None = None
    conflict: bool = False
    declined: tuple[str, str] | None = None
    """The run whose rounds it declined for good, and why; forgotten with the connection."""


class Fleet:
    """Every device heard of, and whether it lives."""

    def __init__(self, heartbeat_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self.lost_after_s = MISSED_HEARTBEATS * heartbeat_s
        self.devices: dict[str, Device] = {}
        self._cut_off_at: float | None = 0.0

    def presume(self, devices: list[str], now: float) -> None:
        """After a restart: the cohort lives until it had time to say otherwise."""
        for device in devices:
            unknown = Presence(online=False, connection="0" * 16)
            self.devices[device] = Device(unknown, now, now, presumed_until=now + self.lost_after_s)

    def disconnected(self, now: float) -> None:
        """We hear nobody from now on; that is no device's fault."""
        if self._cut_off_at is None:
            self._cut_off_at = now

    def connected(self, now: float) -> None:
        """We hear again: whoever lived when we were cut off has time to be heard."""
        cut_off_at = now if self._cut_off_at is None else self._cut_off_at
        for device in self.devices.values():
            if self._lived(device, cut_off_at):
                device.presumed_until = now + self.lost_after_s
        self._cut_off_at = None

    def overslept(self, awake_at: float, now: float) -> None:
        """Our loop came late: what was sent since it was last awake is still unread, nobody was silent."""
        if self._cut_off_at is None:
            self.disconnected(awake_at)
            self.connected(now)

    def presence(self, name: str, presence: Presence, now: float, *, retained: bool) -> None:
        """A birth, or the death of the connection it names."""
        device = self.devices.get(name)
        if presence.online or device is None:
            presumed = device.presumed_until if device else 0.0
            conflict = device.conflict if device else False
            heartbeat = device.heartbeat if device else None
            same = device is not None and device.presence.connection == presence.connection
            declined = device.declined if device and same else None
            self._admit(name, Device(presence, now, now, presumed, heartbeat, conflict, declined))
        elif presence.connection == device.presence.connection:
            # One that the broker kept may be older than a birth that is still on its way to us.
            device.presence = device.presence.model_copy(update={"online": False})
            if not retained:
                device.presumed_until = 0.0

    def heartbeat(self, name: str, heartbeat: Heartbeat, now: float) -> None:
        """Proof of life, from the connection of the newest birth or, when that one is silent, from any."""
        device = self.devices.get(name)
        if device is None:
            self._admit(
                name, Device(Presence(online=True, connection=heartbeat.connection), now, now, 0.0, heartbeat)
            )
        elif heartbeat.connection == device.presence.connection:
            device.presence = device.presence.model_copy(update={"online": True})
            device.heard_at, device.heartbeat = now, heartbeat
        elif not device.presence.online or not self.alive(name, now):
            changes = {"online": True, "connection": heartbeat.connection}
            device.presence, device.declined = device.presence.model_copy(update=changes), None
            device.heard_at, device.heartbeat = now, heartbeat
        elif now - device.born_at > 2 * self.heartbeat_s:
            device.conflict = True

    def alive(self, name: str, now: float) -> bool:
        """Whether the device lives; while we are cut off, whether it did then."""
        device = self.devices.get(name)
        return device is not None and self._lived(
            device, now if self._cut_off_at is None else self._cut_off_at
        )

    def next_loss(self, names: set[str], now: float) -> float | None:
        """When the first of these would count as lost if it stayed silent."""
        if self._cut_off_at is not None:
            return None
        return min((self._lost_at(self.devices[n]) for n in names if self.alive(n, now)), default=None)

    def _admit(self, name: str, device: Device) -> None:
        if name in self.devices or len(self.devices) < MAX_DEVICES:
            self.devices[name] = device

    def _lost_at(self, device: Device) -> float:
        silent = device.heard_at + self.lost_after_s if device.presence.online else 0.0
        return max(silent, device.presumed_until)

    def _lived(self, device: Device, at: float) -> bool:
        return at < self._lost_at(device)
