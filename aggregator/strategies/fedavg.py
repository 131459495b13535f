"""Federated averaging: McMahan et al. 2017, https://arxiv.org/abs/1602.05629, algorithm 1."""

from collections.abc import Mapping

import numpy as np

from aggregator.strategies.base import BLOCK, State, blocks
from broker.layout import THETA_DTYPE, Layout, Theta
from broker.names import Metrics
from broker.update import DELTA


class FedAvg:
    """theta + sum(n_k * delta_k) / sum(n_k), with n_k the examples of device k.

    Other state (BatchNorm statistics) is averaged in the same way. Memory is 8 P bytes whatever the number of
    updates. Sums are float64, so the order of `add` can change the last bits of them: that a round's result
    does not depend on who uploaded first is due to `aggregate`, which adds in the order of device names.
    """

    def __init__(self) -> None:
        self.state: State = {}

    def begin(self, theta: Theta, layout: Layout) -> None:  # noqa: ARG002  every part is averaged alike
        """Start with an empty sum over theta, float32[P]."""
        self._theta = theta
        self._sum = np.zeros(len(theta), np.float64)
        self._weight = 0.0
        self._product = np.empty(min(BLOCK, len(theta)), np.float64)

    def add(self, update: Mapping[str, Theta], weight: float, metrics: Metrics) -> None:  # noqa: ARG002
        """Add `weight` times the delta, float32[P]."""
        delta = update[DELTA]
        for block in blocks(len(delta)):
            product = self._product[: block.stop - block.start]
            np.multiply(delta[block], weight, out=product, dtype=np.float64)
            self._sum[block] += product
        self._weight += weight

    def finish(self) -> Theta:
        """Return theta plus the weighted mean of the deltas, float32[P]."""
        if not self._weight:
            return self._theta
        result = np.empty(len(self._theta), THETA_DTYPE)
        for block in blocks(len(result)):
            result[block] = self._theta[block] + self._sum[block] / self._weight
        return result
