"""Which devices a round invites. All chance comes from (seed, round), so a restart selects the same."""

import hashlib
import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from aggregator.run_settings import RunSettings

# What an announcement can name.
MAX_COHORT = 4096
# Standard deviations below the mean of a normal distribution that nine in ten exceed.
NINE_IN_TEN = 1.28


@dataclass(frozen=True, slots=True)
class Selection:
    """A round's cohort, how many updates it aims for, and without how many it is abandoned."""

    cohort: tuple[str, ...]
    target: int
    quorum: int


def round_seed(seed: int, round_number: int) -> int:
    """A round's own seed, a number below 2**63."""
    digest = hashlib.sha256(f"midge round {seed} {round_number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def needed(settings: RunSettings) -> int:
    """Devices that fit without which a round cannot reach its quorum, or must not open."""
    return max(settings.min_devices, settings.quorum or 1)


def select(fit: Collection[str], settings: RunSettings, round_number: int, drop_out: float) -> Selection:
    """Choose among those who fit; over-selection invites more than the target (arXiv 1902.01046, 2.3)."""
    wanted = settings.target or max(needed(settings), round(settings.fraction * len(fit)))
    target = min(wanted, len(fit), MAX_COHORT)
    invited = min(len(fit), MAX_COHORT, _with_spares(target, settings, drop_out))
    chance = random.Random(round_seed(settings.seed, round_number))  # noqa: S311 - selection, no secret
    cohort = tuple(sorted(chance.sample(sorted(fit), invited)))
    return Selection(cohort, target, min(settings.quorum or math.ceil(target / 2), target))


def _with_spares(target: int, settings: RunSettings, drop_out: float) -> int:
    """How many to invite, so that nine times in ten as many as the target deliver, within the bounds set.

    Those who deliver are binomially distributed; the normal approximation is close enough.
    """
    most = math.ceil(target * settings.over_selection)
    if settings.min_over_selection is None:
        return most
    for invited in range(math.ceil(target * settings.min_over_selection), most):
        spread = math.sqrt(invited * drop_out * (1 - drop_out))
        if invited * (1 - drop_out) - NINE_IN_TEN * spread >= target:
            return invited
    return most


def replacements(pool: Collection[str], count: int, settings: RunSettings, round_number: int) -> list[str]:
    """Choose whom to invite in place of lost devices."""
    chance = random.Random(round_seed(settings.seed, round_number) + 1)  # noqa: S311 - selection, no secret
    return chance.sample(sorted(pool), min(count, len(pool)))
