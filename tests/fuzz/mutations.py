"""Training programs with damage, and what the trainer makes of a series of them."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.contract import DataContract
from broker.layout import Layout
from broker.litert import LiteRTBody
from broker.messages import DeclineReason
from broker.program import Program
from edge_agent.data.examples import Examples
from edge_agent.events import Trained, TrainerDied, TrainingFailed
from edge_agent.training import Outcome
from tests.edge_agent.runtimes.device import Device, Job
from tests.edge_agent.runtimes.litert_bench import SETTINGS, Bench

CLASSES = ("a", "b", "c")
EXAMPLES = 20
LIMITS = {"trainer_silence_s": 5, "trainer_memory_bytes": 1 << 30}

REFUSED, FAILED, TRAINED = "refused", "failed in training", "trained"
KILLED, SILENCED = "killed the child", "silenced"


@dataclass(frozen=True)
class Model:
    """A sound program, and what it is trained on."""

    name: str
    layout: Layout
    body: LiteRTBody
    job: Job

    @classmethod
    def of(cls, name: str, bench: Bench) -> "Model":
        """Give a classifier of three classes random examples."""
        random = np.random.default_rng(4)
        shape = bench.body.x_shape
        x = random.normal(size=(EXAMPLES, *shape)).astype(np.float32)
        examples = Examples(x, random.integers(0, len(CLASSES), EXAMPLES).astype(np.int32))
        contract = DataContract(shape=shape, classes=CLASSES)
        job = Job(bench.layout.digest, bench.theta, examples, contract, SETTINGS)
        return cls(name, bench.layout, bench.body, job)

    @property
    def program(self) -> bytes:
        """The program, undamaged."""
        return self._packed(self.body)

    def _packed(self, body: LiteRTBody) -> bytes:
        return Program(layout=self.layout, runtime="litert", body=body.to_json()).to_bytes()

    def damaged(self, number: int) -> bytes:
        """One of endlessly many mutations: cut short, or with a few bits flipped.

        Most are of the `.tflite` before it is deflated: whoever writes a hostile one deflates it well. With
        many flips, LiteRT's check of the file sees it at once.
        """
        random = np.random.default_rng(number)
        whole = self.program
        deflated: bytes = json.loads(self.body.to_json())["tflite"].encode()
        begin = whole.index(deflated)
        end = begin + len(deflated)
        kind = random.random()
        if kind < 0.05:
            return _cut(whole, random)
        if kind < 0.1:
            return whole[:begin] + _flipped(deflated, random) + whole[end:]
        if kind < 0.2:
            around = _flipped(whole[:begin] + whole[end:], random)
            return around[:begin] + deflated + around[begin:]
        tflite = _cut(self.body.tflite, random) if kind < 0.3 else _flipped(self.body.tflite, random)
        return self._packed(self.body.model_copy(update={"tflite": tflite}))


def _cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(1, len(content))]


def _flipped(content: bytes, random: np.random.Generator) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    for place in random.integers(0, len(content), random.integers(1, 4)):
        changed[place] ^= 1 << random.integers(8)
    return bytes(changed)


def kind_of(outcome: Outcome) -> str:
    """How a program fared."""
    match outcome:
        case Trained():
            return TRAINED
        case TrainerDied():
            return KILLED
        case TrainingFailed(reason=DeclineReason.TRAINING_FAILED):
            return SILENCED if "said nothing" in outcome.detail else FAILED
    return REFUSED


def survive(folder: Path, model: Model, numbers: range, **limits: Any) -> Iterator[tuple[int, str, Outcome]]:  # noqa: ANN401
    """Train mutations on one device, and the sound program before and after: to the same update.

    Gives each one's number, kind and outcome.
    """
    with Device(folder, model.job, **(LIMITS | limits)) as device:
        first = _update(device, model)
        for number in numbers:
            outcome = device.train(model.damaged(number))
            yield number, kind_of(outcome), outcome
        assert _update(device, model) == first, f"{model.name} after {numbers} trains to another update"


def _update(device: Device, model: Model) -> str:
    """The digest of the sound program's update; a child that was harmed before may die of it, once."""
    outcome = device.train(model.program)
    if isinstance(outcome, TrainerDied):
        outcome = device.train(model.program)
    assert isinstance(outcome, Trained), f"{model.name}, undamaged: {outcome}"
    return outcome.update.digest


def counted(kinds: Counter[str]) -> str:
    """One line."""
    known = (REFUSED, FAILED, TRAINED, KILLED, SILENCED)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in known)
