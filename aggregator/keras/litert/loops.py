"""A step taken many times as one WHILE of LiteRT, and its gradient as another.

The states before each step are kept. The gradient goes back over them, takes each step again and adds up what
the weights get, so that the file holds one step, however many are taken.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

# What LiteRT has to write a row; TensorFlow's public functions become slower operators.
from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_dynamic_update_slice

from aggregator.keras.gradients.table import builtin_gradients
from host.errors import ConfigError

Tensor = Any  # TensorFlow ships no types
Tensors = list[Tensor]
Step = Callable[[Tensors, Tensors], Tensors]
"""From the inputs of a step and the states before it to the states after it."""
Turn = Callable[[Tensor, Tensors], tuple[Tensors, Tensors]]
"""From the number of a turn and what is carried to what is carried on, and a row of each kind."""


_DIFFERENTIABLE = ContextVar("loops keep what a gradient needs", default=False)


@contextmanager
def differentiable() -> Iterator[None]:
    """Have loops that are traced in this context keep what a gradient of them needs."""
    token = _DIFFERENTIABLE.set(True)
    try:
        yield
    finally:
        _DIFFERENTIABLE.reset(token)


def loop(step: Step, inputs: Tensors, states: Tensors, *, every: bool) -> tuple[Tensors, Tensor | None]:
    """Take a step for each row of the inputs, [T, ...] each: the last states, and the first one after each.

    The latter, [T, ...], only where `every` one is asked for. Raises ConfigError for steps that draw random
    numbers: the gradient could not draw them again.
    """
    nothing = _nothing(inputs[0])
    states = [_in_no_file(state, nothing) for state in states]
    taken = _Taken.of(step, inputs, states)
    if _DIFFERENTIABLE.get():
        return _kept(taken, inputs, states, every=every)

    def turn(t: Tensor, before: Tensors) -> tuple[Tensors, Tensors]:
        after = taken.forward(_rows(inputs, t), before)
        return after, after[:1] if every else []

    last, rows = _turns(turn, inputs[0].shape[0], states, like=states[:1] if every else [])
    return last, rows[0] if every else None


@dataclass(frozen=True)
class _Taken:
    """A step as functions of tensors, with the weights that it uses."""

    forward: Callable[[Tensors, Tensors], Tensors]
    backward: Callable[[Tensors, Tensors, Tensors], tuple[Tensors, Tensors, Tensors]]
    """From inputs, states before and gradients of the states after to those of inputs, states and weights."""
    weights: Tensors

    @classmethod
    def of(cls, step: Step, inputs: Tensors, states: Tensors) -> "_Taken":
        """Trace now: later Keras has forgotten which weights the step is to use."""
        weights: Tensors = []

        def back(x: Tensors, before: Tensors, gradients: Tensors) -> tuple[Tensors, Tensors, Tensors]:
            graph = tf.compat.v1.get_default_graph()
            with builtin_gradients():
                after = step(x, before)
            captured = [(outside, here) for outside, here in graph.captures if here.dtype.is_floating]
            weights.extend(outside for outside, _ in captured)
            sources = [*x, *before, *(here for _, here in captured)]
            found = tf.gradients(after, sources, gradients, unconnected_gradients="zero")
            middle, end = len(x), len(x) + len(before)
            return found[:middle], found[middle:end], found[end:]

        row_specs = [tf.TensorSpec(value.shape[1:], value.dtype) for value in inputs]
        specs = [tf.TensorSpec(state.shape, state.dtype) for state in states]
        forward = tf.function(step, autograph=False).get_concrete_function(row_specs, specs)
        if any(operation.type == "RandomUniform" for operation in forward.graph.get_operations()):
            raise ConfigError(
                "a recurrent cell draws random numbers in every step; use the dropout of Keras' own cells, "
                "which draw once a batch"
            )
        backward = tf.function(back, autograph=False).get_concrete_function(row_specs, specs, specs)
        return cls(forward, backward, weights)


def _kept(taken: _Taken, inputs: Tensors, states: Tensors, *, every: bool) -> tuple[Tensors, Tensor | None]:
    """The loop, with the states before each step kept for its gradient."""
    steps, ends = inputs[0].shape[0], (len(inputs), len(inputs) + len(states))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*values: Tensor) -> tuple[Tensors, Callable[..., Tensors]]:
        inputs, first = list(values[: ends[0]]), list(values[ends[0] : ends[1]])

        def turn(t: Tensor, before: Tensors) -> tuple[Tensors, Tensors]:
            return taken.forward(_rows(inputs, t), before), before

        last, kept = _turns(turn, steps, first, like=first)

        def gradient(*upstream: Tensor) -> Tensors:
            return _back(taken, inputs, kept, upstream)

        after = [tf.concat([kept[0][1:], last[0][None]], 0)] if every else []
        return [*last, *after], gradient

    found = run(*inputs, *states, *taken.weights)
    return found[: len(states)], found[-1] if every else None


def _back(taken: _Taken, inputs: Tensors, kept: Tensors, upstream: Sequence[Tensor]) -> Tensors:
    """The gradients of inputs, first states and weights from those of the last states, and of every one."""
    steps, states, nothing = inputs[0].shape[0], len(kept), _nothing(inputs[0])
    of_last, of_every = [_in_no_file(part, nothing) for part in upstream[:states]], upstream[states:]

    def turn(number: Tensor, carried: Tensors) -> tuple[Tensors, Tensors]:
        t = steps - 1 - number
        (first, *others), sums = carried[:states], carried[states:]
        first = tf.add_n([first, *_rows(of_every, t)])
        found = taken.backward(_rows(inputs, t), _rows(kept, t), [first, *others])
        of_inputs, of_states, of_weights = found
        return [*of_states, *(total + part for total, part in zip(sums, of_weights, strict=True))], of_inputs

    sums = [tf.fill(weight.shape, nothing) for weight in taken.weights]
    carried, of_inputs = _turns(turn, steps, [*of_last, *sums], like=[rows[0] for rows in inputs])
    return [*(tf.reverse(rows, [0]) for rows in of_inputs), *carried]


def _turns(turn: Turn, count: int, carried: Tensors, like: Tensors) -> tuple[Tensors, Tensors]:
    """Turn `count` times: what is carried at last, and the rows of all turns, each `like` one given.

    WHILE copies all that it carries at every turn. So rows go into a short buffer first, by a loop in the
    loop, and a turn costs sqrt(count) rows instead of all.
    """
    if not like:
        return _while(lambda number, *_: number < count, turn, carried, [])
    block = math.isqrt(count - 1) + 1
    blocks = -(-count // block)
    nothing = _nothing(like[0])
    short, full = (
        [tf.fill([*sizes, *row.shape], nothing) for row in like] for sizes in ([block], [blocks, block])
    )

    def turn_block(number: Tensor, carried: Tensors) -> tuple[Tensors, Tensors]:
        begin = number * block

        def inside(place: Tensor, *_: Any) -> Tensor:  # noqa: ANN401
            return tf.logical_and(place < block, begin + place < count)

        return _while(inside, lambda place, here: turn(begin + place, here), carried, short)

    carried, buffers = _while(lambda number, *_: number < blocks, turn_block, carried, full)
    flat = [tf.reshape(buffer, [blocks * block, *buffer.shape[2:]])[:count] for buffer in buffers]
    return carried, flat


def _while(
    condition: Callable[..., Tensor], turn: Turn, carried: Tensors, buffers: Tensors
) -> tuple[Tensors, Tensors]:
    def body(number: Tensor, carried: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors, Tensors]:
        carried, rows = turn(number, carried)
        written = [_write(buffer, row, number) for buffer, row in zip(buffers, rows, strict=True)]
        return number + 1, carried, written

    _, carried, buffers = tf.while_loop(condition, body, (tf.constant(0), carried, buffers))
    return carried, buffers


def _rows(values: Sequence[Tensor], number: Tensor) -> Tensors:
    return [tf.gather(rows, number) for rows in values]


def _write(buffer: Tensor, row: Tensor, number: Tensor) -> Tensor:
    begin = tf.concat([tf.reshape(number, [1]), tf.zeros(row.shape.rank, tf.int32)], 0)
    return xla_dynamic_update_slice(buffer, tf.reshape(row, [1, *row.shape]), begin)


def _nothing(like: Tensor) -> Tensor:
    """A zero, float32[], that the converter does not know for one: zeros would lie in the file, in full."""
    value = tf.reshape(like, [-1])[0]
    return tf.cast(tf.logical_and(value > 0, value < 0), tf.float32)


def _in_no_file(value: Tensor, nothing: Tensor) -> Tensor:
    known = tf.get_static_value(value)
    return value if known is None or known.any() else tf.fill(value.shape, nothing)
