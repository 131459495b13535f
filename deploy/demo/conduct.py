"""The demo itself: devices alone, then together, over a broker and real processes."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.run_settings import RunSettings
from aggregator.settings import TaskSettings
from broker.control import SettingValue
from broker.monitor import RunDocument
from deploy.demo.folder import DemoFolder
from deploy.demo.lessons import Lesson
from deploy.demo.outcome import Outcome
from deploy.demo.shares import Share, spell
from deploy.demo.solos import MODULE, Solo, SoloRequest
from deploy.local.fleet import LOOK_S, LocalFleet
from deploy.local.screen import Screen
from deploy.local.verdict import confusion_of
from deploy.results.confusion import Matrix, accuracy
from deploy.results.plots import plot_curves
from edge_agent.data.settings import NpzSettings
from edge_agent.seeds import derive_seed


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
    try:
        with open_fleet(plan, folder, shares, screen) as fleet:
            screen.say("\nTo watch, in another terminal: make monitor; in a browser: make dashboard")
            alone = _train_alone(plan, folder, shares, fleet, screen)
            screen.say(f"\nAll together, {plan.rounds} rounds over Mosquitto at {fleet.url}:")
            fleet.go_online()
            run = train_together(plan, fleet).run
            together = confusion_of(fleet, run, folder.test)
            # The devices' last heartbeats have come meanwhile, so the byte counts are complete.
            return _outcome(plan, fleet, run, shares, alone, together, time.monotonic() - began)
    finally:
        screen.clear()


def open_fleet(plan: Plan, folder: DemoFolder, shares: Sequence[Share], screen: Screen) -> LocalFleet:
    """A device for each share, and an aggregator with the plan's task; the screen says who has what."""
    began = time.monotonic()
    about = {
        share.device: f"{share.examples} examples, never sees {spell(share.lacking)}" for share in shares
    }
    for device, words in about.items():
        screen.say(f"device {device}: {words}")
    tasks = {plan.lesson.name: TaskSettings(file=folder.task, settings=dict(plan.lesson.settings))}
    data = {share.device: NpzSettings(path=share.path) for share in shares}
    return LocalFleet(folder, tasks, data, lambda view: screen.follow(view, about, began))


def train_together(plan: Plan, fleet: LocalFleet, **changes: SettingValue) -> RunDocument:
    """A run of the plan's task on all devices, with `changes` to its settings; raises ChildError."""
    settings = plan.run_settings().model_dump(include={"rounds", "seed", "min_devices"})
    return fleet.run(plan.lesson.name, {**settings, **changes})


def _train_alone(
    plan: Plan, folder: DemoFolder, shares: Sequence[Share], fleet: LocalFleet, screen: Screen
) -> dict[str, Matrix]:
    """Each device on its own, for as many epochs as all rounds have together."""
    settings = plan.run_settings()
    epochs = plan.rounds * (settings.epochs or 1)

    def solo(share: Share) -> Solo:
        training = settings.training(derive_seed(plan.seed, 1, share.device), rounds=plan.rounds)
        return Solo(
            data=share.path,
            model=folder.solos / f"{share.device}.keras",
            settings=training.model_copy(update={"epochs": epochs}),
        )

    screen.say(f"\nEach device alone, {epochs} epochs on its own examples:")
    request = SoloRequest(
        task=folder.task,
        seed=plan.seed,
        runtime=settings.runtime,
        batch_size=settings.batch_size,
        solos={share.device: solo(share) for share in shares},
    )
    job = fleet.processes.job("alone", MODULE, request.model_dump_json())
    while (result := job.result()) is None:
        screen.wait("training each device alone")
        time.sleep(LOOK_S)
    matrices = {device: np.array(matrix, np.int64) for device, matrix in json.loads(result).items()}
    for device, matrix in matrices.items():
        screen.say(f"device {device} alone: {accuracy(matrix):.1%} right")
    return matrices


def _outcome(
    plan: Plan,
    fleet: LocalFleet,
    run: str,
    shares: Sequence[Share],
    alone: dict[str, Matrix],
    together: Matrix,
    seconds: float,
) -> Outcome:
    folder = fleet.folder.run(run)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    best = max(accuracy(matrix) or 0.0 for matrix in alone.values())
    plot_curves(folder / "curves.png", history, {"best device alone": best})
    return Outcome(
        run=run,
        rounds=plan.rounds,
        shares=tuple(shares),
        alone=alone,
        together=together,
        seconds=seconds,
        bytes_up=sum(device.bytes_up for device in fleet.view.devices.values()),
        bytes_down=sum(device.bytes_down for device in fleet.view.devices.values()),
        model=folder / "model.keras",
    )
