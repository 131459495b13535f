"""What goes wrong from outside: links, sites, power, the broker, the aggregator and its operator."""

from collections.abc import Callable, Sequence

from aggregator.coordinator import events as on
from broker.messages import DeclineReason
from deploy.simulator.aggregator import Aggregator
from deploy.simulator.clock import Clock
from deploy.simulator.device import Device
from deploy.simulator.network import Broker
from deploy.simulator.scenario import Scenario, Troubles
from deploy.simulator.session import DEAD_LINK_S
from edge_agent.availability import Hindrance

BROKER_SAVES_S = 30.0
BROKER_DOWN_S = (0.5, 20.0)
AWAY_S = (5.0, 60.0)
STALL_S = (5.0, 40.0)
ALWAYS = (0.0, 1.0)
REASONS = (DeclineReason.PAUSED, DeclineReason.HEAT)


class Troublemaker:
    """Has trouble of each kind come at random, again and again, as long as `current` names that kind."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        broker: Broker,
        aggregator: Aggregator,
        devices: Sequence[Device],
        current: Callable[[], Troubles],
        trace: Callable[[str, object], None],
    ) -> None:
        self._scenario = scenario
        self._clock = clock
        self._broker = broker
        self._aggregator = aggregator
        self._devices = devices
        self._current = current
        self._trace = trace

    def plan(self) -> None:
        """Begin."""
        plans: dict[str, Callable[[], None]] = {
            "link_cut_s": self._cut_a_link,
            "partition_s": self._partition,
            "site_away_s": self._lose_a_site,
            "device_away_s": self._lose_a_device,
            "device_unfit_s": self._hinder_a_device,
            "disk_full_s": self._fill_the_disk,
            "aggregator_dies_s": lambda: self._aggregator.crash(power=self._coin()),
            "aggregator_stalls_s": lambda: self._aggregator.stall(self._clock.chance.uniform(*STALL_S)),
            "broker_restarts_s": self._restart_broker,
            "operator_pauses_s": lambda: self._aggregator.operate(on.PauseRun()),
            "operator_stops_s": lambda: self._aggregator.operate(on.StopRun()),
        }
        for name, happen in plans.items():
            self._again(name, happen)
        self._clock.after(BROKER_SAVES_S, self._save)
        if self._scenario.heals_at > 0:
            for device in self._devices:
                if device.about.awake != ALWAYS:
                    self._sleep(device)

    def _again(self, name: str, happen: Callable[[], None]) -> None:
        """Have trouble of a kind come back at random, as rare as its mean time says."""
        mean_s = getattr(self._current(), name)
        if mean_s:

            def come() -> None:
                if getattr(self._current(), name):
                    self._trace("world", name)
                    happen()
                    self._again(name, happen)

            self._clock.after(self._clock.chance.expovariate(1 / mean_s), come)

    def _clients(self) -> list[Aggregator | Device]:
        return [self._aggregator, *self._devices]

    def _coin(self) -> bool:
        return self._clock.chance.random() < 0.5  # noqa: PLR2004 - heads or tails

    def _any_device(self) -> Device:
        return self._clock.chance.choice(self._devices)

    def _cut_a_link(self) -> None:
        one = self._clock.chance.choice(self._clients())
        self._cut(one)

    def _cut(self, one: Aggregator | Device) -> None:
        if one.running:
            one.session.cut(
                client_sees_s=self._clock.chance.uniform(0, DEAD_LINK_S),
                broker_sees_s=self._clock.chance.uniform(0, DEAD_LINK_S),
            )

    def _partition(self) -> None:
        one = self._clock.chance.choice(self._clients())
        one.cut_off_until = self._clock.now + self._clock.chance.uniform(*AWAY_S)
        self._cut(one)

    def _lose_a_site(self) -> None:
        site = self._any_device().about.site
        dark_s = self._clock.chance.uniform(*self._current().site_down_s)
        for device in self._devices:
            if device.about.site == site:
                device.lose_power(dark_s)

    def _lose_a_device(self) -> None:
        device = self._any_device()
        if self._coin():
            device.crash(power=self._coin())
        else:
            device.leave()
            self._clock.after(self._clock.chance.uniform(*AWAY_S), device.boot)

    def _hinder_a_device(self) -> None:
        reason = self._clock.chance.choice(REASONS)
        self._any_device().hinder(Hindrance(reason, "simulated"), self._clock.now + self._away_s())

    def _fill_the_disk(self) -> None:
        self._aggregator.disk.full_until = self._clock.now + self._away_s()

    def _away_s(self) -> float:
        return self._clock.chance.uniform(*AWAY_S)

    def _restart_broker(self) -> None:
        if self._broker.running:
            self._broker.stop(killed=self._coin())
            self._clock.after(self._clock.chance.uniform(*BROKER_DOWN_S), self._broker.start)

    def _sleep(self, device: Device) -> None:
        """Have the device's power follow the sun, until all is well."""
        day_s, (wakes, sleeps) = self._scenario.day_s, device.about.awake
        dark_s = (1 - sleeps + wakes) * day_s

        def night() -> None:
            if self._clock.now < self._scenario.heals_at:
                device.lose_power(dark_s)
                self._clock.after(day_s, night)

        begun_s = (sleeps % 1.0) * day_s - day_s
        if begun_s + dark_s > 0:
            device.dark_until = begun_s + dark_s
        self._clock.after(begun_s + day_s, night)

    def _save(self) -> None:
        self._clock.after(BROKER_SAVES_S, self._save)
        if self._broker.running:
            self._broker.save()
