"""The runtime for devices without TensorFlow: LiteRT runs the training program, on one thread."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.layout import THETA_DTYPE, Layout, Theta
from broker.litert import LOSS, LiteRTBody
from broker.messages import TrainingSettings
from edge_agent.data.examples import AnyArray, Examples
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained
from edge_agent.runtimes.litert_graph import Arrays, Graph, target_dtype
from edge_agent.runtimes.litert_steps import functions_for, step_of
from edge_agent.runtimes.order import Course
from edge_agent.runtimes.reseed import reseeded
from host.errors import WireError


class LiteRTRuntime:
    """Takes the steps that Keras would take, on the same batches in the same order, to float32 rounding."""

    honours = frozenset({"proximal", "clip_norm", "schedule", "short_batch"})

    def __init__(self) -> None:
        self._loaded: tuple[bytes, Layout] | None = None

    def load(self, program: bytes, layout: Layout) -> None:
        """Start an interpreter and try it on zeros; the same program again costs nothing."""
        if (program, layout) == self._loaded:
            return
        self._loaded = None
        self._body = LiteRTBody.from_json(_text(program))
        self._graph = Graph(self._body, layout)
        self._layout = layout
        if self._body.stochastic:
            reseeded(self._body.tflite, 0)  # refuses here, not in the middle of a round, what takes no seed
        self._loaded = (program, layout)

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        """Step through the batches; the loss is that of the last epoch, all `steps` counting as one epoch.

        A short last batch is filled with rows of weight 0 and counts as Keras counts it. Where the model
        has batch statistics, which see every row, it is refilled or dropped as `short_batch` says.
        Dropout follows from the seed, but is not Keras' own. The loss is without the proximal term.
        """
        self._check(theta, settings)
        course = Course(len(examples.x), settings, full_batches=self._body.batch_statistics)
        self._make_ready(settings)
        take = step_of(self._graph, self._layout, theta, settings)
        opt, done = self._beginning(optimizer), 0
        base = settings.learning_rate or self._body.learning_rate
        for rows in course:
            loss = 0.0
            for batch in self._batches(examples, rows):
                theta, opt, mean = take(theta, opt, course.rate(base, done), batch.arrays)
                loss += batch.rows * mean
                done += 1
                progress(done / course.steps)
        return Trained(theta, {LOSS: (loss, float(len(rows)))}, course.examples, (opt,))

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        """Sums of the program's metrics, which add up exactly; a regulariser counts once an example."""
        self._check(theta)
        sums = np.zeros(len(self._body.metrics))
        for batch in self._batches(examples, np.arange(len(examples.x))):
            sums += self._graph.call("evaluate", {"theta": theta, **batch.arrays})["sums"]
        weight = float(len(examples.x))
        return {name: (float(total), weight) for name, total in zip(self._body.metrics, sums, strict=True)}

    def _check(self, theta: Theta, settings: TrainingSettings | None = None) -> None:
        if theta.shape != (self._layout.size,) or theta.dtype != THETA_DTYPE:
            raise WireError(f"theta is {theta.dtype}{theta.shape}, the program has ({self._layout.size},)")
        if settings and settings.batch_size != self._body.batch:
            raise WireError(
                f"the program was exported for batches of {self._body.batch}, the round asks for "
                f"{settings.batch_size}: set batch_size to {self._body.batch}, or export it again"
            )

    def _make_ready(self, settings: TrainingSettings) -> None:
        """Have the functions that these settings need, with what chance there is from their seed."""
        functions = functions_for(settings)
        if self._graph.functions != functions:
            self._graph = Graph(self._body, self._layout, functions)
        if self._body.stochastic:
            self._graph.restart(reseeded(self._body.tflite, settings.seed))

    def _beginning(self, kept: OptimizerState) -> NDArray[np.float32]:
        """Kept optimizer state, or zeros: also when it is another optimizer's."""
        size = self._body.optimizer_size
        match kept:
            case [opt] if opt.shape == (size,) and opt.dtype == THETA_DTYPE:
                return opt
        return np.zeros(size, np.float32)

    def _batches(self, examples: Examples, rows: NDArray[np.int64]) -> Iterator["_Batch"]:
        """Cut rows into batches of the program's size; a short last one gets rows of weight 0."""
        body = self._body
        _check_fit("inputs", examples.x, body.x_shape, np.dtype(body.x_dtype))
        _check_fit("labels or targets", examples.y, body.y_shape, target_dtype(body))
        for start in range(0, len(rows), body.batch):
            part = rows[start : start + body.batch]
            weight = (np.arange(body.batch) < len(part)).astype(np.float32)
            full = np.concatenate([part, np.resize(rows, body.batch - len(part))])
            arrays = {
                "x": _taken(examples.x, full, body.x_shape, np.dtype(body.x_dtype)),
                "y": _taken(examples.y, full, body.y_shape, target_dtype(body)),
                "weight": weight,
            }
            yield _Batch(arrays, len(part))


@dataclass(frozen=True)
class _Batch:
    arrays: Arrays
    rows: int
    """How many of its rows are real."""


def _check_fit(what: str, values: AnyArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Extents of 1 make no difference, and types may widen, as in Keras."""
    here = values.shape[1:]
    if [n for n in here if n != 1] != [n for n in shape if n != 1] or not np.can_cast(
        values.dtype, dtype, "same_kind"
    ):
        raise WireError(
            f"{what} are {values.dtype}{here}, the program takes {dtype}{shape}: "
            "its task and its data contract disagree"
        )


def _taken(
    values: AnyArray, rows: NDArray[np.int64], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> AnyArray:
    return values[rows].reshape(len(rows), *shape).astype(dtype, copy=False)


def _text(program: bytes) -> str:
    try:
        return program.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"training program is no text: {error}") from None
