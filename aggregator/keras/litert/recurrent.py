"""Keras' recurrent layers as loops of LiteRT, in the place of its `backend.rnn`."""

from collections.abc import Callable
from typing import Any, NoReturn

import tensorflow as tf

from aggregator.keras.litert.loops import Step, Tensor, Tensors, loop

States = Any  # tensors, nested in lists
FlatCell = Callable[[Tensor, Tensors], tuple[Tensor, Tensors]]


def rnn(
    step_function: Callable[[Tensor, States], tuple[Tensor, States]],
    inputs: Tensor,
    initial_states: States,
    *,
    go_backwards: bool = False,
    mask: Tensor | None = None,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
    **_: Any,  # noqa: ANN401  unroll and the like, which make no difference here
) -> tuple[Tensor, Tensor, States]:
    """The last output, [B, ...], all outputs, [B, T, ...] or [B, 1, ...], and the last states."""
    structure, states = tuple(initial_states), tf.nest.flatten(initial_states)
    rows = [_by_time(inputs, backwards=go_backwards)]

    def cell(x: Tensor, before: Tensors) -> tuple[Tensor, Tensors]:
        output, after = step_function(x, tf.nest.pack_sequence_as(structure, before))
        return output, tf.nest.flatten(after)

    output, is_first_state = _tried(cell, rows[0], states)
    step, own = _states_of(cell), 0
    if mask is not None or not is_first_state:
        own, states, step = 1, [tf.zeros(output.shape, output.dtype), *states], _output_and_states_of(cell)
    if mask is not None:
        rows.append(_by_time(tf.cast(mask, tf.float32), backwards=go_backwards))
        step = _masked(step, zero_output=zero_output_for_mask)
    last, every = loop(step, rows, states, every=return_all_outputs)
    outputs = last[0][:, None] if every is None else _by_time(every, backwards=False)
    return last[0], outputs, tf.nest.pack_sequence_as(structure, last[own:])


def no_cudnn(*_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
    """Say as Keras does that these operators are not there, so that it goes on without."""
    raise NotImplementedError


def _tried(cell: FlatCell, rows: Tensor, states: Tensors) -> tuple[tf.TensorSpec, bool]:
    """What a cell gives, and whether it is the first of its states, as in Keras' own cells."""
    found = []

    def once(x: Tensor, before: Tensors) -> Tensor:
        output, after = cell(x, before)
        found.append(output is after[0])
        return output

    specs = [tf.TensorSpec(state.shape, state.dtype) for state in states]
    row = tf.TensorSpec(rows.shape[1:], rows.dtype)
    output = tf.function(once, autograph=False).get_concrete_function(row, specs).outputs[0]
    return tf.TensorSpec(output.shape, output.dtype), found[0]


def _states_of(cell: FlatCell) -> Step:
    return lambda inputs, before: cell(inputs[0], before)[1]


def _output_and_states_of(cell: FlatCell) -> Step:
    def step(inputs: Tensors, before: Tensors) -> Tensors:
        output, after = cell(inputs[0], before[1:])
        return [output, *after]

    return step


def _masked(step: Step, *, zero_output: bool) -> Step:
    """Where the last of the inputs is 0, output (the first state) and states stay; or the output is zero."""

    def masked(inputs: Tensors, before: Tensors) -> Tensors:
        output, *states = before
        otherwise = [tf.zeros_like(output) if zero_output else output, *states]
        after = step(inputs[:-1], before)
        return [
            tf.where(_to_rank(inputs[-1] > 0.0, a.shape.rank), a, o)
            for a, o in zip(after, otherwise, strict=True)
        ]

    return masked


def _to_rank(mask: Tensor, rank: int) -> Tensor:
    """A mask, [B] or [B, 1], as [B, 1, ...]."""
    return tf.reshape(mask, [-1, *[1] * (rank - 1)])


def _by_time(values: Tensor, *, backwards: bool) -> Tensor:
    """Batch and time exchanged, and time turned round, where the layer goes backwards."""
    rows = tf.transpose(values, [1, 0, *range(2, values.shape.rank)])
    return tf.reverse(rows, [0]) if backwards else rows
