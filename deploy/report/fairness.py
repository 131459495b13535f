"""How evenly a model serves the devices, and how evenly they contribute to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean, pstdev

from deploy.report.facts import DeviceFacts, Fit, Spread
from deploy.report.measures import jain, lower_is_better, spread


@dataclass(frozen=True, slots=True)
class Fairness:
    """Of the federated model's values on the devices' own data, each device in its newest round.

    `worst_tenth` is the mean of the worst tenth of the devices, as in Li et al., Fair Resource Allocation in
    Federated Learning, ICLR 2020: https://arxiv.org/abs/1905.10497
    """

    name: str
    values: Spread
    worst: str
    best: str
    deviation: float
    worst_tenth: float
    jain: float | None


def fairness(fits: Sequence[Fit], name: str) -> Fairness | None:
    """Judge by one metric; None where no device reported it."""
    reported = [fit for fit in fits if name in fit.federated]
    if not reported:
        return None
    # The worst device comes first.
    ranked = sorted(
        reported, key=lambda fit: -fit.federated[name] if lower_is_better(name) else fit.federated[name]
    )
    values = [fit.federated[name] for fit in ranked]
    return Fairness(
        name=name,
        values=spread(values),
        worst=ranked[0].device,
        best=ranked[-1].device,
        deviation=pstdev(values),
        worst_tenth=fmean(values[: ceil(len(values) / 10)]),
        jain=jain(values),
    )


def evenness(devices: Sequence[DeviceFacts]) -> tuple[float | None, float | None]:
    """Jain's index of the devices' accepted updates, and of the examples behind these."""
    if not devices:
        return None, None
    return (
        jain([one.accepted for one in devices]),
        jain([one.accepted * one.examples for one in devices]),
    )
