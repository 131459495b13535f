from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aggregator.keras.litert.loops import differentiable, loop

ROWS, WIDTH = 3, 2


def step(weights: Any, inputs: Any, before: Any) -> Any:  # noqa: ANN401
    first, second = before
    return [tf.tanh(inputs[0] @ weights + first * second), second * 0.9 + first]


def by_loop(inputs: Any, states: Any, weights: Any) -> Any:  # noqa: ANN401
    return loop(lambda x, before: step(weights, x, before), [inputs], states, every=True)


def one_by_one(inputs: Any, states: Any, weights: Any) -> Any:  # noqa: ANN401
    every = []
    for row in tf.unstack(inputs):
        states = step(weights, [row], states)
        every.append(states[0])
    return states, tf.stack(every)


def found(run: Callable[..., Any], steps: int) -> list[Any]:
    """Values, and gradients of a sum of them in which no two count the same."""
    random = np.random.default_rng(steps)
    shapes = [(steps, ROWS, WIDTH), (ROWS, WIDTH), (ROWS, WIDTH), (WIDTH, WIDTH)]
    given = [tf.constant(random.normal(size=shape), tf.float32) for shape in shapes]

    # Compiled, because the writing of a row is an operator of XLA.
    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def run_all(inputs: Any, first: Any, second: Any, weights: Any) -> Any:  # noqa: ANN401
        with differentiable():
            last, every = run(inputs, [first, second], weights)
        parts = [*last, every]
        sources = [inputs, first, second, weights]
        total = tf.add_n([tf.reduce_sum(part * tf.cos(part + n)) for n, part in enumerate(parts)])
        return parts, tf.gradients(total, sources)

    values, gradients = run_all(*given)
    return [*values, *gradients]


@pytest.mark.parametrize("steps", [1, 2, 7, 9])
def test_a_loop_and_its_gradient_are_those_of_the_steps_one_by_one(steps: int) -> None:
    for ours, theirs in zip(found(by_loop, steps), found(one_by_one, steps), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_a_gradient_the_values_are_the_same() -> None:
    random = np.random.default_rng(0)
    inputs, state = random.normal(size=(5, ROWS, WIDTH)), random.normal(size=(ROWS, WIDTH))
    given = [tf.constant(values, tf.float32) for values in (inputs, state, state[:WIDTH])]
    compiled = tf.function(lambda x, s, w: by_loop(x, [s, s], w), jit_compile=True, autograph=False)
    (last, every), (last_expected, every_expected) = (
        compiled(*given),
        one_by_one(given[0], [given[1], given[1]], given[2]),
    )
    np.testing.assert_allclose(every, every_expected, rtol=1e-5)
    np.testing.assert_allclose(last, last_expected, rtol=1e-5)
