"""A device: the agent's real core and transfers, in a process that can end at any step."""

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from broker import events as broker_events
from broker import topics as tree
from broker.messages import AgentState, Announcement, Federation, Grant, Invite, Message, Presence, Receipt
from broker.session import Will
from broker.topics import Topics
from deploy.simulator import scenario as of
from deploy.simulator.clock import Clock
from deploy.simulator.disk import SimulatedStore
from deploy.simulator.fates import require
from deploy.simulator.judge import Judge
from deploy.simulator.network import Broker
from deploy.simulator.process import Process
from deploy.simulator.scenario import Scenario, Troubles
from deploy.simulator.session import Delivered, Happening, SimulatedSession
from deploy.simulator.timeline import Timeline, doing
from deploy.simulator.trainer import SimulatedTrainer
from edge_agent import effects as do
from edge_agent import events as on
from edge_agent.availability import CALM_S, Hindrance
from edge_agent.downloads import Downloads
from edge_agent.lifecycle import Lifecycle
from edge_agent.uploads import Uploads

RUNTIMES = ("litert",)
NO_CONNECTION = "0" * 16
DOWN_S = (1.0, 30.0)
JUDGES_EVERY_S = 5.0
FORGOTTEN_S = CALM_S + 2 * JUDGES_EVERY_S
HEARD = (tree.FEDERATION, tree.ROUND, tree.INBOX, tree.PRESENCE)


class Device(Process):
    """One device; `boot` starts the agent, which `crash` and `leave` end."""

    def __init__(
        self,
        about: of.Device,
        scenario: Scenario,
        clock: Clock,
        broker: Broker,
        topics: Topics,
        judge: Judge,
        trace: Callable[[str, object], None],
        troubles: Callable[[], Troubles],
    ) -> None:
        super().__init__(clock)
        self.about = about
        self._scenario = scenario
        self._broker = broker
        self._topics = topics
        self._judge = judge
        self._trace = trace
        self._troubles = troubles
        self._lost: set[str] = set()
        self.store = SimulatedStore(self.disk)
        self._trained_s = 0.0
        self.dark_until = 0.0
        """When its place has power again."""
        self.timeline: Timeline | None = None
        self._sending = False
        self._hindrance: Hindrance | None = None
        self._calm_at = 0.0
        self.connection = ""
        """Of the agent that runs, as the broker gave it last."""

    # -- life --------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the agent on what the disk holds."""
        if self._clock.now < self.dark_until:
            self._clock.at(self.dark_until, self.boot)
            return
        if self.running:
            return
        name = self.about.name
        self._begin()
        birth = Presence(
            online=True, connection=NO_CONNECTION, runtimes=RUNTIMES, examples=self.about.examples
        )
        chance = Random(self._clock.chance.getrandbits(64))  # noqa: S311 - a simulation must be repeatable
        self.core = Lifecycle(name, birth, chance, self.store.load())
        self._topic_of = {
            branch: self._topics.topic(branch, device=name)
            for branch in (tree.PRESENCE, tree.HEARTBEAT, tree.OFFER, tree.REPORT)
        }
        self.session = SimulatedSession(
            self._clock,
            self._broker,
            self.about.line,
            self._hear,
            last_words=lambda connection: Presence(online=False, connection=connection),
            presence=self._topic_of[tree.PRESENCE],
            subscriptions=[self._topics.filter(branch, device=name) for branch in HEARD],
            reachable=self._reaches_the_broker,
        )
        self._downloads = Downloads(self.store, self.session, self._topics)
        self._uploads = Uploads(self.store, self.session, self._topics, name)
        self._trainer = SimulatedTrainer(self.about, self._clock, self.store, self._later, self._tell)
        self._deeds = self._deed_table()
        self.session.start()
        if self._hindrance is not None:
            self._guard(self._look_at_conditions)

    def crash(self, *, power: bool, down_s: tuple[float, float] = DOWN_S) -> None:
        """End the agent, with its machine or without; it is started again some time later."""
        if self.running:
            self._trace(f"{self.about.name} crashes", power)
            self.crashes += 1
            if power:
                self.disk.tear()
            self._end()
            self.session.die(power=power)
            self._clock.after(self._clock.chance.uniform(*down_s), self.boot)

    def lose_power(self, dark_s: float) -> None:
        """End with the power of the whole place, and start as soon as that is back."""
        self.dark_until = max(self.dark_until, self._clock.now + dark_s)
        self.crash(power=True, down_s=(dark_s, dark_s))

    def leave(self) -> None:
        """End the agent in good order."""
        if self.running:
            self._trace(f"{self.about.name} leaves", None)
            speaks = self.core.state is not AgentState.DISPLACED
            self._end()
            self.session.stop(Will(self._topic_of[tree.PRESENCE], b"") if speaks else None)

    def hinder(self, hindrance: Hindrance, until: float) -> None:
        """Let the device be unfit for work for some time, as a hot or a busy one is."""
        self._hindrance, self._calm_at = hindrance, until
        if self.running:
            self._guard(self._look_at_conditions)

    def calm(self) -> None:
        """Let nothing hinder the device any more."""
        self._calm_at = min(self._calm_at, self._clock.now)

    def _look_at_conditions(self) -> None:
        """Judge them every few seconds, until it is told that nothing hinders."""
        if self._hindrance is None:
            return
        found = self._hindrance if self._clock.now < self._calm_at else None
        self._tell(on.AvailabilityJudged(found))
        if self._clock.now < self._calm_at + FORGOTTEN_S:
            self._later(JUDGES_EVERY_S, self._look_at_conditions)
        else:
            self._hindrance = None

    def _end(self) -> None:
        super()._end()
        self._trainer.stop()
        self._trained_s += self._trainer.worked_s
        self._sending = False
        self._show()

    def _show(self) -> None:
        """Have it noted what the device does now, if somebody draws it."""
        if self.timeline is None:
            return
        state = self.core.state if self.running else None
        what = doing(state, connected=self.running and self.session.connected, sending=self._sending)
        self.timeline.note(self.about.name, what, self._clock.now)

    @property
    def trained_s(self) -> float:
        """Seconds of training, whatever became of them."""
        return self._trained_s + (self._trainer.worked_s if self.running else 0.0)

    def _due(self) -> tuple[float | None, ...]:
        return self.core.next_deadline(), self._downloads.next_deadline()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._clock.after(seconds, self._guarded(action))

    def _fire(self) -> None:
        now = self._clock.now
        self._downloads.fire(now)
        deadline = self.core.next_deadline()
        if deadline is not None and now >= deadline:
            self._measure_vitals()
            self._tell(on.TimerFired())

    def _measure_vitals(self) -> None:
        """Count the bytes for the next heartbeat; of machines, nothing else is simulated."""
        up, down = self._uploads.bytes_up, self._downloads.bytes_down
        self._tell(on.VitalsMeasured(0, None, bytes_up=up, bytes_down=down))

    # -- from the broker -----------------------------------------------------------------------------

    def _hear(self, happening: Happening) -> None:
        if self.running:
            self._guard(lambda: self._on(happening))

    def _on(self, happening: Happening) -> None:
        match happening:
            case Delivered(topic, payload, retained):
                told = self._read(topic, payload, retained=retained)
                if any(isinstance(event, on.Fetched | Receipt) for event in told):
                    self._measure_vitals()
                self._tell(*told)
            case broker_events.Acknowledged(ticket):
                self._tell(*self._uploads.acknowledged(ticket))
            case broker_events.Connected(connection):
                self.connection = connection
                self._downloads.connected(self._clock.now)
                self._tell(on.Connected(connection))
            case broker_events.Disconnected():
                self._uploads.stop()
                self._tell(on.Disconnected())

    def _read(self, topic: str, payload: Message | bytes, *, retained: bool) -> list[on.Event]:
        match payload:
            case Presence():
                return [on.PresenceSeen(payload, retained)]
            case Receipt():
                pending = self.core.snapshot().pending
                if pending is not None and pending.update.transfer == payload.transfer:
                    self._judge.answered(self.about.name, payload)
                return [payload]
            case Federation() | Announcement() | Invite() | Grant():
                return [payload]
            case bytes() if payload:
                digest, index = topic.split("/")[-2:]
                return [*self._downloads.chunk(digest, int(index), payload, self._clock.now)]
        return []

    # -- events in, effects out ------------------------------------------------------------------------

    def _tell(self, *told: on.Event) -> None:
        waiting = deque(told)
        while waiting:
            event = waiting.popleft()
            self._trace(self.about.name, event)
            if isinstance(event, on.UpdateLost):
                self._lost.add(event.transfer)
            effects = self.core.handle(event, self._clock.now)
            self.core.validate()
            require(self.core.state is not AgentState.DISPLACED, f"{self.about.name} displaced itself")
            for effect in effects:
                waiting.extend(self._deeds[type(effect)](effect) or ())
        self._sending &= self.core.state is AgentState.UPLOADING
        self._show()

    def _deed_table(self) -> dict[type[do.Effect], Callable[[Any], Iterable[on.Event] | None]]:
        return {
            do.Publish: self._publish,
            do.Persist: self._persist,
            do.Fetch: lambda effect: self._downloads.fetch(effect.refs, self._clock.now),
            do.StopFetching: lambda _: self._downloads.stop(),
            do.Train: self._start,
            do.Evaluate: self._start,
            do.StopTraining: lambda _: self._trainer.stop(),
            do.SendChunks: self._send,
            do.DeleteUpdate: self._delete_update,
            do.Log: lambda _: None,
            do.Reject: lambda _: None,
        }

    def _publish(self, effect: do.Publish) -> None:
        branch = effect.branch
        if branch is tree.OFFER:
            self._judge.offers(self.about.name, effect.message, self.store.kept)
        topic = self._topic_of[branch]
        self.session.publish(topic, effect.message, qos=branch.qos, retain=branch.retained)

    def _persist(self, effect: do.Persist) -> None:
        self.store.save(effect.snapshot)
        self._judge.keeps(self.about.name, effect.snapshot)

    def _send(self, effect: do.SendChunks) -> Iterable[on.Event]:
        self._sending = True
        return self._uploads.send(effect.update, effect.indexes)

    def _delete_update(self, effect: do.DeleteUpdate) -> None:
        lost = effect.transfer in self._lost
        self._judge.deletes(self.about.name, effect.transfer, lost=lost)
        self._uploads.stop()
        self.store.delete_update(effect.transfer)

    def _start(self, job: do.Train | do.Evaluate) -> None:
        asked = job.assignment
        for ref in (asked.program, asked.theta):
            require(self.store.has_blob(ref), f"{self.about.name} begins without blob {ref.digest[:16]}")
        if isinstance(job, do.Train):
            self._judge.trains(self.about.name, asked.run, asked.round)
        troubles = self._troubles()
        seconds = self._trainer.start(job, troubles, self._scenario.parameters)
        if isinstance(job, do.Train) and self._clock.happens(troubles.dropout):
            self._later(self._clock.chance.uniform(0, seconds), lambda: self._drop_out(job.job))

    def _drop_out(self, job: int) -> None:
        troubles = self._troubles()
        if troubles.dropout and self._trainer.job == job:
            self.crash(power=True, down_s=troubles.dropout_s)
