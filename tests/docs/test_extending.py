"""docs/extending.md: its strategy, its runtime and its task, run as they stand on the page."""

import ast
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aggregator.aggregate import SpooledUpdate, aggregate
from aggregator.keras.worker import Worker
from aggregator.strategies.registry import load_strategy
from broker.layout import Layout, Theta
from broker.update import encode_update, open_update
from edge_agent.runtimes.registry import available, create
from edge_agent.trainer import Trainer
from host.children import Emit, Json
from tests.docs.pages import ROOT, Block, files

# What every runtime keeps to, so does the page's: these run here again, with this module's `bench`.
from tests.edge_agent.runtimes.test_runtime_contract import (  # noqa: F401
    Bench,
    blobs,
    test_a_program_with_other_weights_than_the_layout_is_refused,
    test_kept_optimizer_state_changes_the_next_round_and_is_handed_on,
    test_metrics_are_sums_that_add_up,
    test_progress_rises_to_one,
    test_the_same_seed_gives_the_same_bits_whatever_came_before,
    test_the_weight_of_an_update_is_how_many_examples_it_saw,
    test_training_gives_finite_weights_of_the_same_form_and_leaves_the_old_ones,
    test_training_improves_the_model,
    test_what_is_no_program_is_refused_and_the_runtime_goes_on,
)

FILES = files(ROOT / "docs/extending.md")
LAYOUT = Layout(trainable=((2,),), state=((1,),))
SOFTMAX = Layout(trainable=((4, 3), (3,)))
MOST_STATEMENTS = 30


@pytest.fixture(autouse=True, scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's package, as an installer would leave it."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads(FILES["pyproject.toml"].text)["project"]
    for name, block in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(block.text)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for module in [name for name in sys.modules if name.partition(".")[0] == "our_midge"]:
        del sys.modules[module]


@pytest.fixture
def bench() -> Bench:
    runtime = create("softmax")
    program = b'{"shape": [4, 3]}'
    runtime.load(program, SOFTMAX)
    return Bench(runtime, program, SOFTMAX, np.zeros(SOFTMAX.size, np.float32), blobs())


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
    built = ask(worker, verb="build", task=task, folder=tmp_path, seed=1, initial=None)
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
    measured = ask(worker, verb="evaluate", task=task, theta=theta, keras=tmp_path / "model.keras")
    assert measured["event"] == "evaluated", measured
    right, weight = measured["metrics"]["accuracy"]
    assert weight == 70
    assert right / weight > 0.8
    assert measured["model"] == str(tmp_path / "model.npz")
