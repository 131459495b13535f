"""The demo itself: devices alone, then together, over a broker and real processes."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.run_settings import RunSettings
from broker.events import Received, Refused, SessionEvent
from broker.messages import Verb
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from deploy.command.control import ask, new_request
from deploy.demo.folder import DemoFolder
from deploy.demo.lessons import Lesson
from deploy.demo.outcome import Outcome
from deploy.demo.processes import Job, Processes
from deploy.demo.scene import ENDED, WATCHED, Scene
from deploy.demo.screen import Screen
from deploy.demo.shares import Share, spell
from deploy.demo.solos import SoloRequest, Solos
from deploy.results.confusion import Matrix, accuracy
from deploy.results.plots import plot_curves
from edge_agent.seeds import derive_seed
from host.errors import ChildError
from host.inbox import Inbox

TOPICS = Topics("demo")
QUEUED = 10_000
LOOK_S = 0.1
# Python, and on a busy machine TensorFlow, take their time to load.
ONLINE_S = 120.0
BUILT_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What to show."""

    lesson: Lesson
    devices: int
    rounds: int
    seed: int

    def run_settings(self) -> RunSettings:
        """Every device takes part in every round."""
        return RunSettings.model_validate(
            {**self.lesson.settings, "rounds": self.rounds, "seed": self.seed, "min_devices": self.devices}
        )


def conduct(plan: Plan, folder: DemoFolder, screen: Screen) -> Outcome:
    """Run the demo in `folder`; whatever happens, no process is left. Raises MidgeError."""
    began = time.monotonic()
    shares = folder.fill(plan.lesson, plan.devices, plan.seed)
    for share in shares:
        screen.say(f"device {share.device}: {share.examples} examples, never sees {spell(share.lacking)}")
    try:
        # In this order: the broker is the last to end.
        with (
            Mosquitto(folder.broker, TOPICS, _accounts(shares), persistence=False) as broker,
            Processes(folder.logs) as processes,
        ):
            alone = _train_alone(plan, folder, shares, processes, screen)
            stage = _Stage(plan, folder, shares, processes, screen, broker.settings)
            return stage.play(alone, began)
    finally:
        screen.clear()


def _accounts(shares: list[Share]) -> dict[str, Role]:
    people = {"aggregator": Role.AGGREGATOR, "operator": Role.OPERATOR, "monitor": Role.MONITOR}
    return {**people, **{share.device: Role.DEVICE for share in shares}}


def _train_alone(
    plan: Plan, folder: DemoFolder, shares: list[Share], processes: Processes, screen: Screen
) -> dict[str, Matrix]:
    """Each device on its own, for as many epochs as all rounds have together."""
    settings = plan.run_settings()
    epochs = plan.rounds * (settings.epochs or 1)

    def request(share: Share) -> SoloRequest:
        training = settings.training(derive_seed(plan.seed, 1, share.device), rounds=plan.rounds)
        return SoloRequest(
            task=folder.task,
            data=share.path,
            model=folder.solos / f"{share.device}.keras",
            seed=plan.seed,
            runtime=settings.runtime,
            settings=training.model_copy(update={"epochs": epochs}),
        )

    screen.say(f"\nEach device alone, {epochs} epochs on its own examples:")
    solos = Solos(processes, request, shares)
    while not solos.over:
        for device in solos.advance():
            screen.say(f"device {device} alone: {accuracy(solos.matrices[device]):.1%} right")
        screen.wait("training each device alone")
        time.sleep(LOOK_S)
    return {share.device: solos.matrices[share.device] for share in shares}


class _Stage:
    """All parts on the broker, and the loop that watches them."""

    def __init__(
        self,
        plan: Plan,
        folder: DemoFolder,
        shares: list[Share],
        processes: Processes,
        screen: Screen,
        account: Callable[[str], BrokerSettings],
    ) -> None:
        self._plan, self._folder, self._shares = plan, folder, shares
        self._processes, self._screen, self._account = processes, screen, account
        self._scene = Scene(TOPICS)
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        self._began = time.monotonic()

    def play(self, alone: dict[str, Matrix], began: float) -> Outcome:
        subscriptions = [(TOPICS.filter(branch), 1) for branch in WATCHED]
        monitor = Session(
            self._account("monitor"), "monitor", self._put, will=None, subscriptions=subscriptions
        )
        monitor.start()
        try:
            self._start_everything()
            run = self._start_run()
            self._wait_for(lambda: self._over(run), None, "")
            together = self._compare(run)
            # The devices' last heartbeats have come meanwhile, so the byte counts are complete.
            return self._outcome(run, alone, together, time.monotonic() - began)
        finally:
            monitor.stop()

    def _put(self, event: SessionEvent) -> None:
        self._events.put(event, droppable=True)

    def _start_everything(self) -> None:
        self._screen.say(
            f"\nAll together, {self._plan.rounds} rounds over Mosquitto at {self._account('monitor').url}:"
        )
        aggregator = self._folder.write_aggregator(self._account("aggregator"), self._plan.lesson)
        self._processes.service("aggregator", "aggregator.main", "run", "--config", str(aggregator))
        for share in self._shares:
            agent = self._folder.write_agent(self._account(share.device), share)
            self._processes.service(
                f"device-{share.device}", "edge_agent.main", "run", "--config", str(agent)
            )
        self._wait_for(
            lambda: self._scene.aggregator_online and self._scene.live == len(self._shares),
            ONLINE_S,
            "the aggregator and all devices were not online",
        )

    def _start_run(self) -> str:
        settings = self._plan.run_settings().model_dump(include={"rounds", "seed", "min_devices"})
        request = new_request(Verb.START, self._plan.lesson.name, settings)
        reply = ask(self._account("operator"), request, BUILT_S, meanwhile=self._look)
        if not reply.ok or reply.run is None:
            raise ChildError(f"the run did not start: {reply.text}")
        return reply.run

    def _over(self, run: str) -> bool:
        document = self._scene.run
        if document is None or document.run != run:
            return False
        if document.state in ("paused", "stopped", "failed"):
            raise ChildError(f"the run is {document.state}: {document.reason or 'see the logs'}")
        return document.state in ENDED

    def _compare(self, run: str) -> Matrix:
        """Have the model classify the held-out examples, in a process that may load TensorFlow."""
        folder = self._folder.run(run)
        picture = str(folder / "confusion.png")
        arguments = (
            "confusion",
            str(folder / "model.keras"),
            str(self._folder.test),
            "--json",
            "-o",
            picture,
        )
        job: Job = self._processes.job("confusion", "deploy.command.entry", *arguments)
        self._wait_for(lambda: job.result() is not None, None, "")
        return np.array(json.loads(job.result() or "{}")["matrix"], np.int64)

    def _outcome(self, run: str, alone: dict[str, Matrix], together: Matrix, seconds: float) -> Outcome:
        folder: Path = self._folder.run(run)
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        best = max(accuracy(matrix) or 0.0 for matrix in alone.values())
        plot_curves(folder / "curves.png", history, {"best device alone": best})
        return Outcome(
            run=run,
            rounds=self._plan.rounds,
            shares=tuple(self._shares),
            alone=alone,
            together=together,
            seconds=seconds,
            bytes_up=self._scene.bytes_up,
            bytes_down=self._scene.bytes_down,
            model=folder / "model.keras",
        )

    def _wait_for(self, condition: Callable[[], bool], limit_s: float | None, otherwise: str) -> None:
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not condition():
            if deadline is not None and time.monotonic() > deadline:
                raise ChildError(f"{otherwise} within {limit_s:g} s; see the logs (--keep DIR keeps them)")
            self._look(LOOK_S)

    def _look(self, wait_s: float = 0.0) -> None:
        """Take in what arrived, see that all processes live, and show it."""
        event = self._events.get(wait_s)
        while event is not None:
            self._take(event)
            event = self._events.get(0.0)
        self._processes.check()
        self._screen.follow(self._scene, self._shares, self._began)

    def _take(self, event: SessionEvent) -> None:
        match event:
            case Received(topic=topic, payload=payload):
                self._scene.take(topic, payload)
            case Refused(reason=reason):
                raise ChildError(f"the demo's own broker refused the account monitor: {reason}")
            case _:
                pass
