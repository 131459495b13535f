"""One simulation from begin to end: trouble while it lasts, then peace in which the run must complete."""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aggregator.coordinator import events as on
from aggregator.coordinator.phases import RunOutcome
from broker import topics as tree
from broker.messages import Presence
from broker.topics import Topics
from deploy.simulator.aggregator import UNIX_S, Aggregator
from deploy.simulator.clock import Clock
from deploy.simulator.device import Device
from deploy.simulator.disk import Disk
from deploy.simulator.fates import ViolationError, require
from deploy.simulator.judge import Judge
from deploy.simulator.network import Broker, Weather
from deploy.simulator.scenario import Scenario, Troubles
from deploy.simulator.timeline import Doing, Timeline
from deploy.simulator.trouble import Troublemaker

TASK = "task"
LOOKS_S = 5.0
BOOTED_WITHIN_S = 5.0
TRACED = 40
STEPS_AT_ONCE = 100_000
SETTLES_S = 60.0


class World:
    """The fleet, its broker, its aggregator and all that happens to them; `run` goes through all of it."""

    def __init__(self, scenario: Scenario, *, traced: bool = True) -> None:
        self.scenario = scenario
        self._traced = traced
        self.troubles = scenario.troubles
        self.clock = Clock(scenario.seed)
        self.weather = Weather(
            self.troubles.jitter_s, self.troubles.lost, self.troubles.duplicated, self.troubles.ghosts
        )
        self._at_once = 0
        self.judge = Judge()
        self.broker = Broker(self.clock, self.weather)
        topics = Topics("simulated")
        self._presence_of = partial(topics.topic, tree.PRESENCE)
        self._hash = hashlib.blake2b(digest_size=16)
        self._tail: deque[str] = deque(maxlen=TRACED)
        self.aggregator = Aggregator(
            scenario,
            self.clock,
            self.broker,
            topics,
            self.judge,
            self.trace,
            self._connection_of,
            lambda: self.troubles,
        )
        self.devices = {
            about.name: Device(
                about,
                scenario,
                self.clock,
                self.broker,
                topics,
                self.judge,
                self.trace,
                lambda: self.troubles,
            )
            for about in scenario.devices
        }
        for disk in self._disks():
            disk.cuts, disk.rot = self.troubles.power_cuts, self.troubles.files_rot
        self.troublemaker = Troublemaker(
            scenario,
            self.clock,
            self.broker,
            self.aggregator,
            [*self.devices.values()],
            lambda: self.troubles,
            self.trace,
        )

    # -- what happened -----------------------------------------------------------------------------

    def trace(self, who: str, what: object) -> None:
        """Note what happens: the same seed must give the same."""
        if not self._traced:
            return
        line = f"{self.clock.now:.6f} {who}: {what}"
        self._hash.update(line.encode())
        self._tail.append(line)

    @property
    def digest(self) -> str:
        """A hash of all that happened so far, in order."""
        return self._hash.hexdigest()

    @property
    def recent(self) -> list[str]:
        """What happened last."""
        return [*self._tail]

    # -- from begin to end ---------------------------------------------------------------------------

    def run(self) -> None:
        """Let it all happen; raises ViolationError with the seed when something is not as it must be."""
        with self._named():
            self.begin()
            self.until(self.scenario.heals_at)
            self._heal()
            ends_at = self.scenario.heals_at + self.scenario.within_s
            while not self.finished:
                require(self.clock.now < ends_at, f"the run is still {self._where()} long after all is well")
                self._step()
            self.until(self.clock.now + SETTLES_S)
            self._look_at_the_end()

    def watch(self) -> Timeline:
        """Have it noted what each device does when, from now on."""
        timeline = Timeline()
        for name, device in self.devices.items():
            device.timeline = timeline
            timeline.note(name, Doing.AWAY, self.clock.now)
        return timeline

    def run_in_trouble(self, look: Callable[[], None]) -> None:
        """Let one run take as long as it takes, with trouble to its end; `look` is called now and then."""
        with self._named():
            self.begin()
            while not self.finished:
                self.until(self.clock.now + LOOKS_S)
                require(self.clock.now < self.scenario.within_s, f"the run is still {self._where()}")
                look()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            what = str(fault) if isinstance(fault, ViolationError) else repr(fault)
            where = f"seed {self.scenario.seed}, at {self.clock.now:.3f} s"
            raise ViolationError(f"{where}: {what}") from fault

    @property
    def completed(self) -> int:
        """Rounds that the active run has completed."""
        run = self.aggregator.core.run
        return run.completed if run else 0

    @property
    def finished(self) -> bool:
        """Whether the newest run has ended: one that waits for a full disk is in no ledger yet."""
        active = self.aggregator.running and self.aggregator.core.run is not None
        return not active and [*self.judge.runs.values()][-1:] == [RunOutcome.FINISHED]

    def begin(self) -> None:
        """Start the aggregator and, within some seconds, every device."""
        chance = self.clock.chance
        self.aggregator.boot()
        for device in self.devices.values():
            self.clock.after(chance.uniform(0, BOOTED_WITHIN_S), device.boot)
        self.clock.after(LOOKS_S, self._look)
        self.troublemaker.plan()

    def _heal(self) -> None:
        """End all trouble: whatever is down comes back, and stays."""
        self.trace("world", "heals")
        self.troubles = Troubles()
        self.weather.jitter_s = self.weather.lost = self.weather.duplicated = self.weather.ghosts = 0.0
        for disk in self._disks():
            disk.cuts = disk.rot = 0.0
        self.aggregator.cut_off_until = self.aggregator.disk.full_until = 0.0
        for device in self.devices.values():
            device.cut_off_until = device.dark_until = 0.0
            device.calm()
        self.broker.start()
        self.aggregator.boot()
        for device in self.devices.values():
            device.boot()

    def until(self, time: float) -> None:
        """Let all happen that happens before this time, in seconds from the begin."""
        done = False

        def stop() -> None:
            nonlocal done
            done = True

        self.clock.at(time, stop)
        while not done:
            self._step()

    def _step(self) -> None:
        """One action, and a limit to what happens in no time."""
        clock, before = self.clock, self.clock.now
        clock.step()
        self._at_once = self._at_once + 1 if clock.now == before else 0
        require(self._at_once < STEPS_AT_ONCE, "time stands still")

    def _look_at_the_end(self) -> None:
        """Look at what all the trouble has left."""
        for name, device in self.devices.items():
            stands = self.broker.retained.get(self._presence_of(device=name))
            require(stands is not None, f"{name} has no presence")
            assert stands is not None
            presence = stands.payload
            assert isinstance(presence, Presence)
            mine = presence.online and presence.connection == device.connection
            require(mine, f"{name} lives as {device.connection}, its presence says {presence}")
            pending = device.core.snapshot().pending
            require(pending is None, f"{name} still offers its update of {pending and pending.round}")
        ledger = self.aggregator.ledger
        every = [row for summary in ledger.runs() for row in ledger.rounds(summary.run)]
        require(all(row.outcome for row in every), "a round was never closed")
        run = ledger.runs(1)[0].run
        rounds = ledger.rounds(run)
        done = [row for row in rounds if row.outcome != "abandoned"]
        require(len(done) == self.scenario.settings.rounds, f"{len(done)} rounds were completed")
        peace = UNIX_S + self.scenario.heals_at + SETTLES_S
        for row in rounds:
            missed = row.outcome == "abandoned" and row.opened_unix_s > peace
            require(not missed, f"round {row.round} failed in peace: {row.reason}")
        for row in done:
            require((run, row.round) in self.judge.aggregates, f"round {row.round} has no aggregate")

    def _where(self) -> str:
        aggregator = self.aggregator
        run = aggregator.core.run
        paused = run and run.paused
        return f"{aggregator.core.phase}, round {run and run.last_round}, paused: {paused}"

    # -- the operator ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """See that there is a run as long as there is trouble, one of them to its end, and none is paused."""
        self.clock.after(LOOKS_S, self._look)
        enough = self.clock.now >= self.scenario.heals_at or math.isinf(self.scenario.heals_at)
        if not self.aggregator.running or (self.finished and enough):
            return
        run = self.aggregator.core.run
        if run is None:
            run_id = f"run-{len(self.judge.runs) + 1}"
            self.aggregator.operate(on.StartRun(run_id, TASK, self.scenario.settings))
        elif run.paused is not None:
            self.aggregator.operate(on.ResumeRun())

    def _disks(self) -> list[Disk]:
        return [self.aggregator.disk, *(device.disk for device in self.devices.values())]

    def _connection_of(self, device: str) -> str:
        """The connection that a device truly has; empty while it has none."""
        one = self.devices[device]
        return one.connection if one.running and one.session.connected else ""
