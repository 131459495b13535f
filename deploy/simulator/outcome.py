"""What a simulated run cost and gave: from its ledger, and from what the broker carried."""

from dataclasses import dataclass
from statistics import quantiles

from deploy.simulator.world import World


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


def look_at(world: World) -> Outcome:
    """Sum up a run that is over."""
    ledger = world.aggregator.ledger
    run = ledger.runs(1)[0].run
    closed = [row for row in ledger.rounds(run) if row.closed_unix_s is not None]
    done = [row for row in closed if row.outcome != "abandoned"]
    lasted = sorted((row.closed_unix_s or 0.0) - row.opened_unix_s for row in closed)
    trained_s = sum(device.trained_s for device in world.devices.values())
    used_s = sum(part.seconds for row in done for part in ledger.participants(run, row.round) if part.seconds)
    cuts = quantiles(lasted, n=20, method="inclusive") if len(lasted) > 1 else lasted * 19
    return Outcome(
        rounds=len(closed),
        quorum=len(done),
        target=sum(row.accepted >= row.target for row in done),
        median_s=cuts[9],
        p95_s=cuts[18],
        simulated_s=world.clock.now,
        bytes_in=world.broker.carried["up"],
        bytes_out=world.broker.carried["down"],
        trained_s=trained_s,
        wasted_s=max(0.0, trained_s - used_s),
    )
