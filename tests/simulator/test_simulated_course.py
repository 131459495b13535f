"""In peace, what the coordinator keeps of each participant is what the participant did."""

import pytest

from aggregator.ledger_rows import ParticipantRow, RoundRow
from aggregator.run_settings import RunSettings
from deploy.simulator.scenario import Troubles, fleet
from deploy.simulator.workshop import PROGRAM_BYTES
from deploy.simulator.world import World

PARAMETERS = 1000
THETA_BYTES = 4 * PARAMETERS
TRAINED = ["fetching", "training", "uploading", "reported"]
EVALUATED = [*TRAINED, "fetching", "evaluating", "idle"]


def a_world(*, federated_evaluation: bool) -> World:
    settings = RunSettings(
        rounds=2, target=4, quorum=3, deadline_s=100.0, federated_evaluation=federated_evaluation
    )
    scenario = fleet(4, settings, Troubles(), training_s=20.0, parameters=PARAMETERS)
    return World(scenario, traced=False)


def rounds_of(world: World) -> list[tuple[RoundRow, list[ParticipantRow]]]:
    """What the ledger has of the only run."""
    ledger = world.aggregator.ledger
    (run,) = ledger.runs()
    return [(row, ledger.participants(run.run, row.round)) for row in ledger.rounds(run.run)]


@pytest.mark.parametrize(
    ("evaluates", "states"), [(False, TRAINED), (True, EVALUATED)], ids=["trains", "evaluates"]
)
def test_every_participant_is_seen_in_every_state(evaluates: bool, states: list[str]) -> None:  # noqa: FBT001
    world = a_world(federated_evaluation=evaluates)
    world.run_in_trouble(lambda: None)
    told = [[state for state, _ in row.steps] for _, parts in rounds_of(world) for row in parts]
    assert told == [states] * 8


def test_training_takes_the_time_between_two_steps_that_the_device_says_it_took() -> None:
    world = a_world(federated_evaluation=False)
    world.run_in_trouble(lambda: None)
    for row, parts in rounds_of(world):
        assert row.closed_unix_s is not None
        for part in parts:
            steps = dict(part.steps)
            assert steps["uploading"] - steps["training"] == pytest.approx(part.seconds, abs=0.01)
            assert steps["reported"] <= row.closed_unix_s - row.opened_unix_s


def test_the_bytes_of_a_round_are_those_that_were_fetched_for_it() -> None:
    world = a_world(federated_evaluation=True)
    world.run_in_trouble(lambda: None)
    first, second = rounds_of(world)
    # The first begins with nothing; what is evaluated at the end of one round, the next one begins with.
    assert {row.bytes_down for row in first[1]} == {PROGRAM_BYTES + 2 * THETA_BYTES}
    assert {row.bytes_down for row in second[1]} == {THETA_BYTES}
    assert (first[0].bytes_down, second[0].bytes_down) == (
        4 * (PROGRAM_BYTES + 2 * THETA_BYTES),
        4 * THETA_BYTES,
    )
