"""A local step with a training program: in one call, or in two where the gradient is changed in between."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent.runtimes.litert_graph import IN_PARTS, PLAIN, Arrays, Graph

Vector = NDArray[np.float32]
Step = Callable[[Theta, Vector, float, Arrays], tuple[Theta, Vector, float]]
"""From theta, optimizer state, learning rate and batch to theta, optimizer state and loss."""


def functions_for(settings: TrainingSettings) -> tuple[str, ...]:
    """Which functions of a program these settings need: the fast way where nothing else is asked for."""
    return IN_PARTS if settings.proximal or settings.clip_norm else PLAIN


def step_of(graph: Graph, layout: Layout, theta: Theta, settings: TrainingSettings) -> Step:
    """The step that the settings ask for; `theta`, float32[P], is the round's."""
    if graph.functions == PLAIN:
        return _whole(graph)
    return _in_parts(graph, theta[: layout.trainable_size], settings, keeps_state=bool(layout.state))


def _whole(graph: Graph) -> Step:
    def step(theta: Theta, opt: Vector, rate: float, batch: Arrays) -> tuple[Theta, Vector, float]:
        after = graph.call("train", {"theta": theta, "opt": opt, "lr": _lr(rate), **batch})
        return after["theta"], after["opt"], float(after["loss"][0])

    return step


def _in_parts(graph: Graph, anchor: Vector, settings: TrainingSettings, *, keeps_state: bool) -> Step:
    def step(theta: Theta, opt: Vector, rate: float, batch: Arrays) -> tuple[Theta, Vector, float]:
        trained = theta[: len(anchor)]
        found = graph.call("grad", {"theta": theta, **batch})
        gradient = changed(found["grad"], trained, anchor, settings)
        after = graph.call("apply", {"trained": trained, "opt": opt, "lr": _lr(rate), "grad": gradient})
        trained = after["trained"]
        theta = np.concatenate([trained, found["state"]]) if keeps_state else trained
        return theta, after["opt"], float(found["loss"][0])

    return step


def changed(gradient: Vector, trained: Vector, anchor: Vector, settings: TrainingSettings) -> Vector:
    """Add the proximal term of FedProx, then clip: all are float32[Pt], `anchor` the round's weights.

    So the norm is that of the gradient of what the device minimises. The term is mu * (w - anchor), from
    Li et al. 2020, https://arxiv.org/abs/1812.06127.
    """
    if settings.proximal:
        gradient = gradient + np.float32(settings.proximal) * (trained - anchor)
    if settings.clip_norm is not None:
        norm = float(np.linalg.norm(gradient))
        if norm > settings.clip_norm:
            gradient = gradient * np.float32(settings.clip_norm / norm)
    return gradient


def _lr(rate: float) -> Vector:
    return np.array([rate], np.float32)
