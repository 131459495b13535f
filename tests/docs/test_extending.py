"""docs/extending.md: its strategy, its runtime and its task, run as they stand on the page.

That the runtime keeps to the contract, test_runtime_contract.py finds.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aggregator.aggregate import SpooledUpdate, aggregate
from aggregator.strategies.registry import load_strategy
from aggregator.worker import Worker
from broker.layout import Layout, Theta
from broker.update import encode_update, open_update
from edge_agent.runtimes.registry import available
from edge_agent.trainer import Trainer
from host.children import Emit, Json
from tests.docs.page_package import FILES, installed
from tests.docs.pages import Block
from tests.edge_agent.runtimes.test_runtime_contract import blobs

LAYOUT = Layout(trainable=((2,),), state=((1,),))
SOFTMAX = Layout(trainable=((4, 3), (3,)))
MOST_STATEMENTS = 30


@pytest.fixture(autouse=True, scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


def statements(block: Block) -> int:
    """How many statements there are, besides imports and docstrings."""
    free = (ast.Import, ast.ImportFrom, ast.Expr)
    return sum(
        isinstance(node, ast.stmt) and not isinstance(node, free) for node in ast.walk(ast.parse(block.text))
    )


@pytest.mark.parametrize("name", ["our_midge/fedavgm.py", "our_midge/softmax.py"])
def test_the_classes_are_short(name: str) -> None:
    assert statements(FILES[name]) <= MOST_STATEMENTS


def test_both_are_found_by_the_pages_entry_points() -> None:
    assert type(load_strategy("fedavgm")).__name__ == "FedAvgM"
    assert "softmax" in available()


def play_round(folder: Path, number: int, deltas: dict[str, tuple[list[float], int]]) -> list[float]:
    """A round as the aggregator computes it, from the theta before; updates are real files."""
    updates = []
    for device, (delta, examples) in deltas.items():
        path = folder / f"{number}-{device}.update"
        path.write_bytes(b"".join(encode_update(LAYOUT.digest, {"delta": np.array(delta, np.float32)})))
        updates.append(SpooledUpdate(device, path, examples, {}))
    before, after = (folder / f"round-{n:04}.f32" for n in (number - 1, number))
    aggregate(load_strategy("fedavgm"), LAYOUT, before, updates, after)
    return [float(value) for value in np.fromfile(after, "<f4")]


def test_the_strategy_adds_momentum_to_what_is_trained_and_averages_the_rest(tmp_path: Path) -> None:
    (tmp_path / "round-0000.f32").write_bytes(np.array([10, 20, 30], np.float32).tobytes())
    # Means: (1, 3, 5) with weights 1 and 3, then (1, 1, 1).
    first = play_round(tmp_path, 1, {"a": ([4, 0, 8], 1), "b": ([0, 4, 4], 3)})
    assert first == [11, 23, 35]
    second = play_round(tmp_path, 2, {"a": ([1, 1, 1], 5)})
    assert second == pytest.approx([11 + 1 + 0.9, 23 + 1 + 2.7, 36], rel=1e-6)
    third = play_round(tmp_path, 3, {"a": ([0, 0, 0], 5)})
    assert third == pytest.approx([12.9 + 0.9 * 1.9, 26.7 + 0.9 * 3.7, 36], rel=1e-6)


def test_the_strategy_without_updates_leaves_theta(tmp_path: Path) -> None:
    (tmp_path / "round-0000.f32").write_bytes(np.array([10, 20, 30], np.float32).tobytes())
    play_round(tmp_path, 1, {"a": ([1, 1, 1], 1)})
    assert play_round(tmp_path, 2, {}) == [11, 21, 31]


def ask(handle: Callable[[Json, Emit], None], **request: object) -> Json:
    said: list[Json] = []
    paths = {key: str(value) if isinstance(value, Path) else value for key, value in request.items()}
    handle(paths, lambda message: said.append(dict(message)))
    return said[-1]


def test_the_task_is_built_trained_with_the_runtime_and_measured(tmp_path: Path) -> None:
    """What the children of aggregator and agent do in a round of one device."""
    task, data, held_out = (tmp_path / name for name in ("colours.py", "data.npz", "held_out.npz"))
    task.write_text(FILES["colours.py"].text)
    for path in (data, held_out):
        np.savez(path, **blobs()._asdict())
    worker, trainer = Worker().handle, Trainer().handle
    built = ask(worker, verb="build", task=task, folder=tmp_path, seed=1, runtime="litert", initial=None)
    assert (built["event"], built["layout"], built["test_examples"]) == ("built", SOFTMAX.digest, 70), built
    given = {key: built[key] for key in ("program", "theta", "layout", "contract")}
    given |= {"data": {"kind": "npz", "path": str(data)}, "runtime": "softmax"}
    given |= {"settings": {"epochs": 5, "batch_size": 16, "seed": 3}}
    update = tmp_path / "new.update"
    trained = ask(trainer, verb="train", **given, update=update, state=tmp_path / "kept.state")
    assert trained["event"] == "trained", trained
    header, vectors = open_update(update)
    assert header.layout == SOFTMAX.digest
    after: Theta = np.array(vectors["delta"])
    theta = Path(built["theta"])
    theta.write_bytes(after.tobytes())
    total, weight = ask(trainer, verb="evaluate", **given)["metrics"]["loss"]
    assert (total, weight) == pytest.approx(trained["validation"]["loss"])
    assert total / weight < np.log(3) / 2
    measured = ask(worker, verb="evaluate", task=task, theta=theta, model=tmp_path / "model")
    assert measured["event"] == "evaluated", measured
    right, weight = measured["metrics"]["accuracy"]
    assert weight == 70
    assert right / weight > 0.8
    assert measured["model"] == str(tmp_path / "model.npz")
