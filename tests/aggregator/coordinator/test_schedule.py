"""Which part of a run's learning-rate schedule each announcement says, whatever happens in between."""

import json

from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Phase
from tests.aggregator.coordinator.world import HEARTBEAT_S, World


def scheduled(world: World) -> tuple[int, int, int]:
    """The announced round, and between which completed rounds it trains."""
    assert world.announced is not None
    schedule = world.announced.settings.schedule
    assert schedule is not None
    assert schedule.rounds == world.settings.rounds
    return world.announced.round, schedule.begin, schedule.end


def complete(world: World) -> None:
    world.upload("a")
    world.aggregated()
    world.published()
    world.report("a")
    world.evaluated()


def test_abandoned_rounds_do_not_count_and_failed_evaluations_do() -> None:
    world = World(rounds=3, schedule="linear", abandoned_limit=9)
    world.begin_training("a")
    assert scheduled(world) == (1, 0, 1)
    world.live(100.0, "a")
    assert scheduled(world) == (2, 0, 1), "the first was abandoned at its deadline"
    complete(world)
    assert scheduled(world) == (3, 1, 2)
    world.upload("a")
    world.tell(on.AggregationFailed(world.run.run, 3, "not finite"))
    assert scheduled(world) == (4, 1, 2)
    world.upload("a")
    world.aggregated()
    world.published()
    assert scheduled(world) == (4, 1, 2), "that which trained is evaluated"
    world.report("a")
    world.tell(on.EvaluationFailed(world.run.run, 4, "out of memory"))
    assert scheduled(world) == (5, 2, 3)
    complete(world)
    assert world.core.run is None


def test_a_restart_goes_on_where_the_schedule_was() -> None:
    world = World(rounds=3, schedule="cosine", warmup_rounds=1, abandoned_limit=9)
    world.begin_training("a")
    world.live(100.0, "a")
    complete(world)
    for phase in (Phase.TRAINING, Phase.EVALUATING):
        before = scheduled(world)
        world.restart()
        world.tell(on.Connected())
        world.born("a")
        world.published()
        assert (world.phase(), scheduled(world)) == (phase, before) == (phase, (3, 1, 2))
        if phase is Phase.TRAINING:
            world.upload("a")
            world.aggregated()
            world.published()


def test_a_run_that_an_earlier_version_saved_goes_on() -> None:
    """Without what was added since: needs, declines for good, the stopping rule, what a training is asked."""
    world = World()
    world.begin_training("a", "b")
    saved = json.loads(world.core.snapshot())
    del saved["run"]["declined"], saved["run"]["model"]["needs"]
    for name in (
        "stop_when",
        "schedule",
        "warmup_rounds",
        "final_rate",
        "proximal",
        "clip_norm",
        "short_batch",
    ):
        del saved["run"]["settings"][name]
    restored = Coordinator.restore(json.dumps(saved).encode(), HEARTBEAT_S, world.now)
    assert restored.snapshot() == world.core.snapshot()
