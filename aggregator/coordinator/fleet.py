"""Who is alive: births and deaths are hints, heartbeats prove life."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aggregator.coordinator.liveness import USUAL, Rhythm
from aggregator.coordinator.pace import Pace
from broker.messages import AgentState, Heartbeat, Presence
from broker.needs import Misfit

MAX_DEVICES = 10_000


@dataclass(slots=True)
class Device:
    """What is known of a device; times in seconds of the coordinator's clock."""

    presence: Presence
    heard_at: float
    born_at: float
    presumed_until: float = 0.0
    heartbeat: Heartbeat | None = None
    conflict: bool = False
    rhythm: Rhythm = field(default_factory=Rhythm)
    pace: Pace = field(default_factory=Pace)
    beat_at: float | None = None
    """When the last heartbeat came, where nothing but the device decides when the next one does."""
    verdict: tuple[str, Misfit | None] | None = None
    """A run, and why that one cannot use it; None when something about the device changed since."""

    @property
    def displaced(self) -> bool:
        """Whether it keeps quiet, for another machine has its id."""
        return self.heartbeat is not None and self.heartbeat.state is AgentState.DISPLACED


class Fleet:
    """Every device heard of, and whether it lives."""

    def __init__(self, heartbeat_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self.lost_after_s = USUAL * heartbeat_s
        self.devices: dict[str, Device] = {}
        self._cut_off_at: float | None = 0.0

    def presume(self, devices: list[str], now: float) -> None:
        """After a restart: the cohort lives until it had time to say otherwise."""
        for device in devices:
            unknown = Presence(online=False, connection="0" * 16)
            self.devices[device] = Device(unknown, now, now, presumed_until=now + self.lost_after_s)

    @property
    def deaf(self) -> bool:
        """Whether we are cut off, and hear nobody."""
        return self._cut_off_at is not None

    def disconnected(self, now: float) -> None:
        """We hear nobody from now on; that is no device's fault."""
        if self._cut_off_at is None:
            self._cut_off_at = now

    def connected(self, now: float) -> None:
        """We hear again: whoever lived when we were cut off has time to be heard."""
        cut_off_at = now if self._cut_off_at is None else self._cut_off_at
        for device in self.devices.values():
            device.beat_at = None
            device.pace.interrupted()
            if cut_off_at < self._lost_at(device):
                device.presumed_until = now + self.lost_after_s
        self._cut_off_at = None

    def overslept(self, awake_at: float, now: float) -> None:
        """Our loop came late: what was sent since it was last awake is still unread, nobody was silent."""
        if self._cut_off_at is None:
            self.disconnected(awake_at)
            self.connected(now)

    def presence(self, name: str, presence: Presence, now: float, *, retained: bool) -> bool:
        """A birth, or the death of the connection it names; whether that is news."""
        device = self.devices.get(name)
        if device is None:
            return self._admit(name, Device(presence, now, now))
        if presence.online:
            known = self.alive(name, now) and device.presence == presence
            device.presence, device.verdict, device.beat_at = presence, None, None
            device.heard_at = device.born_at = now
            return not known
        if presence.connection != device.presence.connection:
            return False
        # One that the broker kept may be older than a birth that is still on its way to us.
        device.presence = device.presence.model_copy(update={"online": False})
        if not retained:
            device.presumed_until = 0.0
        return True

    def heartbeat(self, name: str, heartbeat: Heartbeat, now: float) -> bool:
        """Proof of life, from the connection of the newest birth or, when that one is silent, from any.

        Whether that is news: most only say that a device goes on.
        """
        device = self.devices.get(name)
        if device is None:
            birth = Presence(online=True, connection=heartbeat.connection)
            device = Device(birth, now, now, heartbeat=heartbeat)
            device.pace.heard(heartbeat, now)
            return self._admit(name, device)
        same, lived = heartbeat.connection == device.presence.connection, self.alive(name, now)
        if not same and lived and device.presence.online:
            device.conflict |= now - device.born_at > 2 * self.heartbeat_s
            return False
        if not same or not device.presence.online:
            changes = {"online": True, "connection": heartbeat.connection}
            device.presence, device.beat_at = device.presence.model_copy(update=changes), None
        displaced, lost_at = device.displaced, self._lost_at(device)
        device.heard_at, device.heartbeat = now, heartbeat
        device.pace.heard(heartbeat, now)
        self._learn_rhythm(device, now)
        if same and lived and device.displaced == displaced:
            # A rhythm that became steadier can bring the loss forward, and with it the next deadline.
            return self._lost_at(device) < lost_at
        device.verdict = None
        return True

    def forget(self, name: str) -> None:
        """Know nothing of a device any more; one that is heard again is new."""
        self.devices.pop(name, None)

    def alive(self, name: str, now: float) -> bool:
        """Whether the device lives; while we are cut off, whether it did then."""
        device = self.devices.get(name)
        return device is not None and self._heard_until(now) < self._lost_at(device)

    def living(self, now: float) -> list[tuple[str, Device]]:
        """Every device that lives, in no order."""
        at, lost_at = self._heard_until(now), self._lost_at
        return [(name, device) for name, device in self.devices.items() if at < lost_at(device)]

    def living_among(self, names: Iterable[str], now: float) -> set[str]:
        """Those of these devices that live: asked at once, since large rounds ask it often."""
        at, lost_at, known = self._heard_until(now), self._lost_at, self.devices
        return {name for name in names if name in known and at < lost_at(known[name])}

    def why_lost(self, name: str, now: float) -> str:
        """What says that a device is lost."""
        device = self.devices.get(name)
        if device is None or device.presence.online:
            return f"silent for {now - device.heard_at:.0f} s" if device else "never heard"
        return "its connection ended"

    def next_loss(self, names: set[str], now: float) -> float | None:
        """When the first of these would count as lost if it stayed silent."""
        if self.deaf:
            return None
        losses = (self._lost_at(self.devices[name]) for name in names)
        return min((loss for loss in losses if now < loss), default=None)

    def _learn_rhythm(self, device: Device, now: float) -> None:
        """Gaps in which we were deaf, or between two connections, say nothing of the device."""
        if self.deaf:
            return
        if device.beat_at is not None:
            device.rhythm.heard((now - device.beat_at) / self.heartbeat_s)
        device.beat_at = now

    def _admit(self, name: str, device: Device) -> bool:
        if len(self.devices) >= MAX_DEVICES:
            return False
        self.devices[name] = device
        return True

    def _heard_until(self, now: float) -> float:
        return now if self._cut_off_at is None else self._cut_off_at

    def _lost_at(self, device: Device) -> float:
        silent, presumed = device.heard_at + device.rhythm.patience * self.heartbeat_s, device.presumed_until
        return silent if device.presence.online and silent > presumed else presumed
