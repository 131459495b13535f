"""What becomes of every accepted update: it counts in one model, or somebody says why in none."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from aggregator.coordinator.effects import CarriedUpdate
from aggregator.coordinator.phases import Decision, Phase, RoundOutcome, RunOutcome
from aggregator.records import (
    Decided,
    Record,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunStarted,
    Transition,
    UpdateAccepted,
)


class ViolationError(AssertionError):
    """Something that must hold does not."""


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise ViolationError unless it holds."""
    if not holds:
        raise ViolationError(otherwise)


class Key(NamedTuple):
    """The update that counts at most once: one device's in one round of a run."""

    run: str
    round: int
    device: str


class Fate(StrEnum):
    """Of an update that was accepted."""

    WAITS = "waits for a model"
    COUNTED = "counted"
    DROPPED = "dropped"


class Fates:
    """Follows the ledger, and knows what each model has to be made of."""

    def __init__(self) -> None:
        self.accepted: dict[Key, str] = {}
        """Digests that the ledger has committed."""
        self._fate: dict[Key, Fate] = {}
        self._models: dict[tuple[str, int], int] = {}
        """Of a run, made before a round opened."""
        self._made: dict[str, int] = {}
        self._carries: dict[str, int] = {}
        """Rounds to complete, of runs that carry late updates."""
        self._due: dict[tuple[str, int], tuple[Key, ...]] = {}
        """What the model of a round is to be made of."""

    def follow(self, record: Record) -> None:
        """Take in what the ledger committed."""
        match record:
            case RunStarted(run, _, settings):
                self._made[run] = 0
                self._carries[run] = int(str(settings["rounds"])) if settings["late"] == "carry" else 0
            case RoundOpened(run, number):
                self._models[run, number] = self._made[run]
            case UpdateAccepted(run, number, device, digest):
                self.accepted[Key(run, number, device)] = digest
                self._fate[Key(run, number, device)] = Fate.WAITS
            case Decided(run, number, str(device), Decision.DROPS):
                self._settle(Key(run, number, device), Fate.DROPPED)
            case Transition(run, int(number), source, target):
                self._went(run, number, source, target)
            case RoundClosed(run, _, outcome) if outcome != RoundOutcome.ABANDONED:
                self._made[run] += 1
            case RunEnded(run, outcome):
                left = self._waiting(run)
                require(not left or outcome != RunOutcome.FINISHED, f"{run} is finished without {left}")

    def made_of(self, run: str, number: int) -> dict[Key, str]:
        """Digests of the updates that a round's model has to be made of."""
        return {key: self.accepted[key] for key in self._due[run, number]}

    def weighs(self, run: str, carried: CarriedUpdate) -> None:
        """Look at what a carried update counts for: FedBuff's weight, https://arxiv.org/abs/2106.06639."""
        since = self._made[run] - self._models[run, carried.round]
        right = math.isclose(carried.weight, (1 + since) ** -0.5)
        require(right, f"{carried} was trained {since} models ago")

    def _went(self, run: str, number: int, source: str, target: str) -> None:
        if (source, target) == (Phase.TRAINING, Phase.AGGREGATING):
            self._due[run, number] = tuple(self._waiting(run))
        elif (source, target) == (Phase.AGGREGATING, Phase.EVALUATING):
            for key in self._due[run, number]:
                self._settle(key, Fate.COUNTED)
        elif (source, target) == (Phase.TRAINING, Phase.WAITING):
            if self._made[run] + 1 >= self._carries[run]:
                self._drop_own(run, number, self._waiting(run))
        elif (source, target) == (Phase.AGGREGATING, Phase.WAITING):
            # The strategy failed on these: nobody knows whether one of them is to blame.
            self._drop_own(run, number, list(self._due[run, number]))

    def _drop_own(self, run: str, number: int, keys: list[Key]) -> None:
        """Without a model, and with no round to carry them into, the updates of a round are for nothing."""
        for key in keys:
            if key[:2] == (run, number):
                self._settle(key, Fate.DROPPED)

    def _settle(self, key: Key, fate: Fate) -> None:
        require(self._fate.get(key) is Fate.WAITS, f"{key} was {self._fate.get(key)}, and is {fate}")
        self._fate[key] = fate

    def _waiting(self, run: str) -> list[Key]:
        return [key for key, fate in self._fate.items() if fate is Fate.WAITS and key.run == run]


def look_at_spool(wanted: Mapping[Key, str], spool: Mapping[Key, str]) -> None:
    """Look whether the aggregator's disk has what a model is made of."""
    for key, digest in wanted.items():
        lies = spool.get(key)
        require(lies == digest, f"the spool has {lies} of {key}, accepted {digest}")
