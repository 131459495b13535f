"""What a simulation is of: a fleet, a run, and what goes wrong."""

import math
from dataclasses import dataclass, field
from random import Random

from aggregator.run_settings import RunSettings
from deploy.simulator.network import Line


@dataclass(frozen=True, slots=True)
class Troubles:
    """Chances, and mean times between events in seconds; zero is never."""

    jitter_s: float = 0.0
    lost: float = 0.0
    duplicated: float = 0.0
    ghosts: float = 0.0
    power_cuts: float = 0.0
    """Of syncs to a disk, those at which the process ends."""
    trainer_dies: float = 0.0
    """Of jobs."""
    work_fails: float = 0.0
    """Of trainings, evaluations and aggregations, those that give an error instead of a result."""
    files_rot: float = 0.0
    """Of reads of an update by its device, those after which it cannot be read any more."""
    clock_is_wrong: float = 0.0
    """Of the aggregator's starts, those before the machine knows what time it is."""
    dropout: float = 0.0
    """Of trainings, those that end with the device's power, which comes back after `dropout_s`."""
    dropout_s: tuple[float, float] = (60.0, 300.0)
    link_cut_s: float = 0.0
    partition_s: float = 0.0
    site_away_s: float = 0.0
    """A site has no power for `site_down_s`."""
    site_down_s: tuple[float, float] = (5.0, 60.0)
    device_away_s: float = 0.0
    device_unfit_s: float = 0.0
    """A device says that it is not available, for instance too hot."""
    aggregator_dies_s: float = 0.0
    disk_full_s: float = 0.0
    """The aggregator's disk is full for a while."""
    aggregator_stalls_s: float = 0.0
    broker_restarts_s: float = 0.0
    operator_pauses_s: float = 0.0
    operator_stops_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """One device: where it stands, how it is connected, how long it trains."""

    name: str
    line: Line
    training_s: float
    examples: int
    site: int = 0
    awake: tuple[float, float] = (0.0, 1.0)
    """From when to when it has power, in days; above 1 it is the next one."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation: all trouble ends at `heals_at`, from where the run may take `within_s`."""

    seed: int
    devices: tuple[Device, ...]
    settings: RunSettings
    troubles: Troubles = field(default_factory=Troubles)
    heals_at: float = 0.0
    within_s: float = 3600.0
    day_s: float = 600.0
    heartbeat_s: float = 5.0
    chunk_bytes: int = 4096
    parameters: int = 2500
    uploads_at_a_time: int = 4


SITES = 2
SPREAD = 0.3
"""Of training times: the standard deviation of their logarithm; one device in twenty is 1.6 times slower."""
LONGEST_ROUNDS = 20
DAY_S = 86_400.0


def chaos(seed: int) -> Scenario:
    """A small fleet and a short run on which everything goes wrong for some minutes, drawn from the seed."""
    chance = Random(seed)  # noqa: S311 - a simulation must be repeatable
    devices = tuple(_any_device(chance, number) for number in range(chance.randint(2, 5)))
    settings = _any_settings(chance, seed)
    rounds_s = settings.rounds * (settings.deadline_s + settings.evaluation_deadline_s)
    return Scenario(
        seed=seed,
        devices=devices,
        settings=settings,
        troubles=_any_troubles(chance),
        heals_at=chance.uniform(60, 240),
        within_s=1.5 * rounds_s + 120,
        parameters=chance.choice([100, 2500, 20_000]),
    )


def fleet(
    count: int,
    settings: RunSettings,
    troubles: Troubles,
    *,
    training_s: float,
    parameters: int,
    sites: int = 1,
    awake: float = 1.0,
    day_s: float = DAY_S,
) -> Scenario:
    """A fleet for whose operator rounds are tried out: some devices are slow, some have thin lines.

    Devices have power for the part `awake` of each day; days begin one after the other, site by site.
    """
    chance = Random(settings.seed)  # noqa: S311 - a simulation must be repeatable
    devices = tuple(
        Device(
            name=f"pi-{number}",
            line=Line(up=chance.choice([1e5, 1e6]), down=chance.choice([5e5, 2e6]), delay_s=0.03),
            training_s=training_s * chance.lognormvariate(0, SPREAD),
            examples=chance.randint(100, 1000),
            site=number % sites,
            awake=(0.0, 1.0) if awake >= 1 else (number % sites / sites, number % sites / sites + awake),
        )
        for number in range(count)
    )
    round_s = settings.deadline_s + settings.evaluation_deadline_s
    return Scenario(
        seed=settings.seed,
        devices=devices,
        settings=settings,
        troubles=troubles,
        heals_at=math.inf,
        within_s=LONGEST_ROUNDS * settings.rounds * round_s / awake + day_s,
        day_s=day_s,
        chunk_bytes=96 << 10,
        parameters=parameters,
    )


def _any_settings(chance: Random, seed: int) -> RunSettings:
    return RunSettings(
        seed=seed,
        rounds=chance.randint(1, 3),
        min_devices=chance.randint(1, 2),
        target=chance.choice([None, 2, 3]),
        quorum=chance.choice([None, 1, 2]),
        over_selection=chance.choice([1.0, 1.5]),
        min_over_selection=chance.choice([None, 1.0]),
        deadline_s=chance.choice([45.0, 60.0, 120.0]),
        min_deadline_s=chance.choice([None, 15.0]),
        straggler_factor=chance.choice([None, 1.5, 3.0]),
        grace_s=chance.choice([0.0, 10.0, 30.0]),
        late=chance.choice(["discard", "carry"]),
        evaluation_deadline_s=chance.choice([10.0, 30.0]),
        federated_evaluation=chance.random() < 0.5,  # noqa: PLR2004 - as often as not
        abandoned_limit=chance.randint(2, 4),
    )


def _any_device(chance: Random, number: int) -> Device:
    line = Line(
        up=chance.choice([2e4, 1e5, 1e6]),
        down=chance.choice([5e4, 1e6]),
        delay_s=chance.choice([0.001, 0.05, 0.4]),
    )
    return Device(
        name=f"pi-{number}",
        line=line,
        training_s=chance.choice([2.0, 8.0, 25.0]),
        examples=chance.randint(1, 500),
        site=number % SITES,
        awake=chance.choice([(0.0, 1.0), (0.0, 1.0), (0.2, 1.0), (0.0, 0.4)]),
    )


def _any_troubles(chance: Random) -> Troubles:
    """Most kinds of trouble are there at a time, but not all: some show only where others are absent."""

    def maybe(*values: float) -> float:
        return chance.choice([0.0, *values])

    return Troubles(
        jitter_s=maybe(0.1, 1.5),
        lost=maybe(0.05, 0.3),
        duplicated=maybe(0.05, 0.3),
        ghosts=maybe(0.5),
        power_cuts=maybe(0.02, 0.08),
        trainer_dies=maybe(0.1),
        work_fails=maybe(0.05),
        files_rot=maybe(0.02),
        clock_is_wrong=maybe(0.5),
        dropout=maybe(0.2),
        link_cut_s=maybe(10.0, 30.0),
        partition_s=maybe(60.0),
        site_away_s=maybe(150.0),
        device_away_s=maybe(40.0, 120.0),
        device_unfit_s=maybe(30.0, 100.0),
        aggregator_dies_s=maybe(30.0, 90.0),
        aggregator_stalls_s=maybe(100.0),
        disk_full_s=maybe(100.0),
        broker_restarts_s=maybe(60.0, 150.0),
        operator_pauses_s=maybe(150.0),
        operator_stops_s=maybe(0.0, 200.0),
    )
