from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import be_deterministic
from broker.litert import LiteRTBody
from broker.program import Program
from host.children import Child
from tests.edge_agent.runtimes.litert_bench import SETTINGS, classifier, images

MUTATIONS = 60
LIMIT_S = 15.0


class Trainer:
    """The agent's trainer, in a process of its own, that is started again when it died."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._child: Child | None = None

    def ask(self, request: dict[str, Any]) -> str:
        """What became of a request: an event or a reason, `died` or `hung`."""
        if self._child is None or not self._child.alive:
            self._child = Child(
                "edge_agent.trainer",
                on_message=self._answers.put,
                on_exit=lambda how: self._answers.put({"event": "died", "detail": how}),
            )
        self._child.send(request)
        try:
            while (answer := self._answers.get(timeout=LIMIT_S))["event"] in {"progress", "measured"}:
                pass
        except Empty:
            self.stop()
            return "hung"
        return str(answer.get("reason", answer["event"]))

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    info = tmp_path / "site/litert-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: litert\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[midge.runtimes]\nlitert = edge_agent.runtimes.litert:LiteRTRuntime\n"
    )
    monkeypatch.syspath_prepend(info.parent)
    trainer = Trainer()
    yield trainer
    trainer.stop()


def mutated(tflite: bytes, random: np.random.Generator) -> bytes:
    """Cut short, or with a few bits flipped: with many, LiteRT's check of the file sees it at once."""
    if random.random() < 0.1:
        return tflite[: random.integers(1, len(tflite))]
    changed = np.frombuffer(tflite, np.uint8).copy()
    for place in random.integers(0, len(tflite), random.integers(1, 4)):
        changed[place] ^= 1 << random.integers(8)
    return bytes(changed)


@pytest.mark.timeout(300)
def test_damaged_programs_end_the_job_or_the_child_and_the_next_job_is_done(
    trainer: Trainer, tmp_path: Path
) -> None:
    be_deterministic()
    bench = classifier("sgd")
    x, y = images()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "theta").write_bytes(bench.theta.tobytes())
    request = {
        "verb": "train",
        "data": {"kind": "npz", "path": str(tmp_path / "data.npz")},
        "runtime": "litert",
        "program": str(tmp_path / "program"),
        "theta": str(tmp_path / "theta"),
        "layout": bench.layout.digest,
        "contract": {"shape": [6, 6, 1], "classes": ["a", "b", "c"]},
        "settings": SETTINGS.model_dump(mode="json"),
        "update": str(tmp_path / "update"),
        "state": str(tmp_path / "state"),
    }

    def outcome(body: LiteRTBody) -> str:
        program = Program(layout=bench.layout, runtime="litert", body=body.to_json())
        (tmp_path / "program").write_bytes(program.to_bytes())
        return trainer.ask(request)

    random = np.random.default_rng(6)
    outcomes = [
        outcome(bench.body.model_copy(update={"tflite": mutated(bench.body.tflite, random)}))
        for _ in range(MUTATIONS)
    ]
    assert set(outcomes) <= {"trained", "program", "training-failed", "died", "hung"}
    assert outcomes.count("program") > MUTATIONS / 3
    assert outcome(bench.body) == "trained"
