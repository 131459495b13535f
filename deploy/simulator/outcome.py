"""What a simulated run cost and gave: from its ledger, and from what the broker carried."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from aggregator.coordinator.phases import RoundOutcome
from deploy.simulator.aggregator import UNIX_S
from deploy.simulator.world import World


@dataclass(frozen=True, slots=True)
class Round:
    """A round that closed; times in seconds of the simulation."""

    number: int
    opened_s: float
    closed_s: float
    updates: int
    target: int
    quorum: int
    made_a_model: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.closed_s - self.opened_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of rounds; times in seconds; bytes that went into the broker, and out of it."""

    rounds: int
    quorum: int
    target: int
    median_s: float
    p95_s: float
    simulated_s: float
    bytes_in: int
    bytes_out: int
    trained_s: float
    wasted_s: float
    """Of training: what became of no model, since its device or its round failed, or it came too late."""


def rounds_of(world: World) -> list[Round]:
    """List the rounds of the newest run that are over."""
    ledger = world.aggregator.ledger
    return [
        Round(
            number=row.round,
            opened_s=row.opened_unix_s - UNIX_S,
            closed_s=row.closed_unix_s - UNIX_S,
            updates=row.accepted,
            target=row.target,
            quorum=row.quorum,
            made_a_model=row.outcome != RoundOutcome.ABANDONED,
        )
        for row in ledger.rounds(ledger.runs(1)[0].run)
        if row.closed_unix_s is not None
    ]


def percentile_95(seconds: Sequence[float]) -> float:
    """What nineteen of twenty are below."""
    return quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


def look_at(world: World) -> Outcome:
    """Sum up a run that is over."""
    ledger, rounds = world.aggregator.ledger, rounds_of(world)
    done = [one for one in rounds if one.made_a_model]
    run = ledger.runs(1)[0].run
    trained_s = sum(device.trained_s for device in world.devices.values())
    used_s = sum(
        part.seconds for one in done for part in ledger.participants(run, one.number) if part.seconds
    )
    return Outcome(
        rounds=len(rounds),
        quorum=len(done),
        target=sum(one.updates >= one.target for one in done),
        median_s=median(one.seconds for one in rounds),
        p95_s=percentile_95([one.seconds for one in rounds]),
        simulated_s=world.clock.now,
        bytes_in=world.broker.carried["up"],
        bytes_out=world.broker.carried["down"],
        trained_s=trained_s,
        wasted_s=max(0.0, trained_s - used_s),
    )
