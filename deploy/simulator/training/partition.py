"""Who gets which examples: partitioners, which give each device its rows of the data.

Each row lies on one device. The same generator gives the same, and it is only drawn from where chance is
part of the method.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.data.examples import MAX_LABELS
from host.errors import ConfigError, DataError

SHARE_STREAM = 1
LARGEST_ALPHA = 1e6
SMALLEST_ALPHA = 1e-6
# What a distribution keeps when all but its smallest parts are used up may be too little to divide by.
LEAST_PART = 1e-200

Rows = NDArray[np.int64]
Labels = NDArray[Any]


def chance_of(seed: int) -> np.random.Generator:
    """The random numbers with which the examples of a run with this seed are cut."""
    return np.random.default_rng([seed, SHARE_STREAM])


def iid(examples: int, devices: int, random: np.random.Generator) -> list[Rows]:
    """Rows by chance, about as many for each device."""
    return np.array_split(random.permutation(examples), devices)


def dirichlet(labels: Labels, devices: int, alpha: float, random: np.random.Generator) -> list[Rows]:
    """About as many for each device, in proportions of labels of its own.

    A device draws its proportions from Dir(alpha p), with p the labels' parts in the data, and then its
    examples, of which none comes back; labels that have run out are left out of the proportions, and where
    those have no others, what is left is taken as it comes. Small alphas give devices of one label, large
    ones devices like the data. From Hsu et al. 2019, https://arxiv.org/abs/1909.06335, section 2.
    """
    rows = _rows_by_label(labels, random)
    left = np.array([len(part) for part in rows], np.int64)
    proportions = random.dirichlet(alpha * left / left.sum(), devices)
    sizes = [len(part) for part in np.array_split(labels, devices)]
    parts = []
    for proportion, size in zip(proportions, sizes, strict=True):
        counts = _draw(proportion, size, left, random)
        left -= counts
        taken = zip(rows, left, left + counts, strict=True)
        parts.append(np.concatenate([part[start:end] for part, start, end in taken]))
    return parts


def _draw(
    proportion: NDArray[np.float64], size: int, left: Rows, random: np.random.Generator
) -> NDArray[np.int64]:
    """How many examples of each label a device gets, `size` in all and of none more than are left."""
    counts = np.zeros_like(left)
    while (missing := size - int(counts.sum())) > 0:
        here = left - counts
        weights = np.where(here > 0, proportion, 0.0)
        if weights.sum() < LEAST_PART:
            weights = here.astype(np.float64)
        counts += np.minimum(random.multinomial(missing, weights / weights.sum()), here)
    return counts


def by_label(labels: Labels, devices: int, kinds: int, random: np.random.Generator) -> list[Rows]:
    """Give each device examples of `kinds` labels only, each label to about as many devices.

    After McMahan et al. 2017, https://arxiv.org/abs/1602.05629, section 3, whose pieces of the sorted
    examples may hold one label more where two meet. Raises DataError when not every label finds a device, or
    a device that many labels.
    """
    rows = _rows_by_label(labels, random)
    if not math.ceil(len(rows) / devices) <= kinds <= len(rows):
        raise DataError(
            f"{devices} devices of {kinds} labels cannot share {len(rows)} labels: give each from "
            f"{math.ceil(len(rows) / devices)} to {len(rows)} of them"
        )
    holders: list[list[int]] = [[] for _ in rows]
    for device in range(devices):
        # Those that fewest devices have; among equals, chance.
        order = np.lexsort((random.random(len(rows)), np.array([len(those) for those in holders])))
        for label in order[:kinds]:
            holders[label].append(device)
    parts: list[list[Rows]] = [[] for _ in range(devices)]
    for part, those in zip(rows, holders, strict=True):
        for device, piece in zip(those, np.array_split(part, len(those)), strict=True):
            parts[device].append(piece)
    return [np.concatenate(pieces) for pieces in parts]


def by_column(values: Labels, devices: int | None) -> list[Rows]:
    """All rows of one value to one device; None: as many devices as there are values.

    With fewer devices each gets every so-manyth value, in their order. Raises DataError when there are more.
    """
    kinds, which = np.unique(values, return_inverse=True)
    count = devices or len(kinds)
    if count > len(kinds):
        raise DataError(
            f"the column has {len(kinds)} values, too few for {count} devices: take fewer devices, or "
            "leave their number out"
        )
    return [np.flatnonzero(which % count == device) for device in range(count)]


def _rows_by_label(labels: Labels, random: np.random.Generator) -> list[Rows]:
    """The rows of each label that occurs, in an order by chance."""
    kinds, which = np.unique(labels, return_inverse=True)
    return [random.permutation(np.flatnonzero(which == kind)) for kind in range(len(kinds))]


@dataclass(frozen=True)
class Material:
    """What there is to cut by: how many examples, their labels if they have such, and a column's values."""

    examples: int
    labels: Labels | None
    values: Labels | None = None


@dataclass(frozen=True)
class Partition:
    """A partitioner by its name, with what it needs to know."""

    name: str
    alpha: float = 0.0
    labels: int = 0
    column: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Partition":
        """Read `iid`, `dirichlet:ALPHA`, `labels:K` or `column:NAME`; raises ConfigError."""
        name, _, value = text.partition(":")
        match name:
            case "iid" if not value:
                return cls(name)
            case "dirichlet" if SMALLEST_ALPHA <= (alpha := _number(value)) <= LARGEST_ALPHA:
                return cls(name, alpha=alpha)
            case "labels" if value.isdecimal() and 0 < int(value) <= MAX_LABELS:
                return cls(name, labels=int(value))
            case "column" if value:
                return cls(name, column=value)
        raise ConfigError(
            f"--partition {text}: write iid, dirichlet:ALPHA (such as dirichlet:0.3), labels:K (such as "
            "labels:2) or column:NAME"
        )

    def cut(self, what: Material, devices: int | None, seed: int) -> list[Rows]:
        """Each device's rows, in the order of the data.

        Only a column says by itself how many `devices` there are. Raises DataError when one would have no
        example, ConfigError where there are no labels to cut by.
        """
        found = [np.sort(part) for part in self._parts(what, devices, chance_of(seed))]
        empty = sum(1 for part in found if not len(part))
        if empty:
            raise DataError(
                f"{empty} of {len(found)} devices would have no example: take fewer devices or more data"
            )
        return found

    def _parts(self, what: Material, devices: int | None, random: np.random.Generator) -> list[Rows]:
        if what.values is not None:
            return by_column(what.values, devices)
        if devices is None:
            raise ConfigError(f"--partition {self.name}: say among how many --devices")
        if self.name == "iid":
            return iid(what.examples, devices, random)
        if what.labels is None:
            raise ConfigError(
                f"--partition {self.name}: the task has no classes to cut by; take iid or column:NAME"
            )
        if self.name == "dirichlet":
            return dirichlet(what.labels, devices, self.alpha, random)
        return by_label(what.labels, devices, self.labels, random)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
