import pytest

from aggregator.coordinator.pace import Pace, Work
from broker.messages import AgentState, Heartbeat

IDLE, FETCHING, TRAINING, UPLOADING = (
    AgentState.IDLE,
    AgentState.FETCHING,
    AgentState.TRAINING,
    AgentState.UPLOADING,
)
WORK = Work("run-a", 1, download_bytes=1000, upload_bytes=400, training_s=None)
SECOND = Work("run-a", 2, download_bytes=1000, upload_bytes=400, training_s=None)


def beat(
    state: AgentState, progress: float = 0.0, down: int = 0, up: int = 0, number: int | None = 1
) -> Heartbeat:
    return Heartbeat(
        connection="0" * 16,
        state=state,
        run="run-a" if number else None,
        round=number,
        progress=progress,
        bytes_down=down,
        bytes_up=up,
    )


def heard(*beats: tuple[float, Heartbeat]) -> Pace:
    """What these heartbeats, each after so many seconds, tell."""
    pace = Pace()
    for now, one in beats:
        pace.heard(one, now)
    return pace


def idle(now: float) -> tuple[float, Heartbeat]:
    return now, beat(IDLE, number=None)


ROUND = (
    idle(0),
    (10, beat(FETCHING)),
    (15, beat(FETCHING, down=500)),
    (20, beat(TRAINING, down=1000)),
    (25, beat(TRAINING, 0.25, down=1000)),
    (40, beat(UPLOADING, 1.0, down=1000)),
    (45, beat(UPLOADING, 1.0, down=1000, up=200)),
    (50, beat(IDLE, down=1000, up=400, number=None)),
)


def test_of_a_device_that_does_not_work_on_the_round_nothing_is_known() -> None:
    assert heard().seconds_left(WORK, 1.0) is None
    assert heard(idle(0)).seconds_left(WORK, 1.0) is None
    assert heard(*ROUND).seconds_left(WORK, 60.0) is None
    assert heard(idle(0), (1, beat(TRAINING, 0.5, number=7))).seconds_left(WORK, 2.0) is None


def test_a_training_is_due_by_its_progress_so_far() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)), (15, beat(TRAINING, 0.1)), (20, beat(TRAINING, 0.2)))
    assert pace.seconds_left(WORK, 20.0) == pytest.approx(40.0)
    assert pace.seconds_left(WORK, 25.0) == pytest.approx(35.0)
    assert pace.seconds_left(WORK, 100.0) == 0.0


def test_a_training_that_stands_still_is_due_later_and_later() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)), (15, beat(TRAINING, 0.1)), (20, beat(TRAINING, 0.2)))
    for now in (25, 30):
        pace.heard(beat(TRAINING, 0.2), now)
    assert pace.seconds_left(WORK, 30.0) == pytest.approx(80.0)


def test_one_heartbeat_after_a_stages_first_tells_nothing() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)), (10.1, beat(TRAINING, 0.5)))
    assert pace.seconds_left(WORK, 11.0) is None


def test_the_first_steps_of_a_training_which_take_longer_do_not_make_a_straggler() -> None:
    cold = heard(idle(0), (10, beat(TRAINING)), (10.5, beat(TRAINING)), (11, beat(TRAINING, 0.0005)))
    assert cold.seconds_left(WORK, 11.0) is None
    cold.heard(beat(TRAINING, 0.1), 12)
    assert cold.seconds_left(WORK, 12.0) == pytest.approx(18.0)


def test_a_training_that_hardly_begins_for_long_is_judged_by_that() -> None:
    beats = [(10 + second, beat(TRAINING, 0.0005 * second)) for second in range(11)]
    assert heard(idle(0), *beats[:-1]).seconds_left(WORK, 20.0) is None
    assert heard(idle(0), *beats).seconds_left(WORK, 20.0) == pytest.approx(1990.0)


def test_a_download_and_an_upload_are_due_by_their_bytes() -> None:
    begun = [idle(0), (10.0, beat(FETCHING, down=5000))]
    pace = heard(*begun, (15, beat(FETCHING, down=5100)), (20, beat(FETCHING, down=5200)))
    assert pace.seconds_left(WORK, 20.0) == pytest.approx(40.0)
    pace = heard(idle(0), (10, beat(UPLOADING)), (15, beat(UPLOADING, up=50)), (20, beat(UPLOADING, up=100)))
    assert pace.seconds_left(WORK, 20.0) == pytest.approx(30.0)


def test_what_was_sent_before_we_heard_of_the_device_is_unknown() -> None:
    pace = heard((10, beat(UPLOADING)), (15, beat(UPLOADING, up=50)), (20, beat(UPLOADING, up=100)))
    assert pace.seconds_left(WORK, 20.0) is None


def test_the_next_round_is_due_by_the_rates_of_the_last_one() -> None:
    pace = heard(*ROUND, (60, beat(FETCHING, down=1000, up=400, number=2)))
    assert pace.seconds_left(SECOND, 60.0) == pytest.approx(10 + 20 + 10)
    assert pace.seconds_left(SECOND, 65.0) == pytest.approx(5 + 20 + 10)


def test_the_measured_speed_of_training_serves_until_there_is_a_better_one() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)))
    assert pace.seconds_left(Work("run-a", 1, 1000, 400, training_s=30.0), 15.0) == pytest.approx(25.0)
    again = heard(*ROUND, (60, beat(TRAINING, down=1000, up=400, number=2)))
    assert again.seconds_left(Work("run-a", 2, 1000, 400, training_s=500.0), 60.0) == pytest.approx(30.0)


def test_an_aborted_training_is_no_measure_of_a_whole_one() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)), (15, beat(TRAINING, 0.1)), idle(20))
    pace.heard(beat(TRAINING, number=2), 30)
    assert pace.seconds_left(SECOND, 30.0) is None


def test_a_training_that_began_anew_is_measured_anew() -> None:
    pace = heard(idle(0), (10, beat(TRAINING)), (20, beat(TRAINING, 0.5)), (30, beat(TRAINING, 0.0)))
    for now, progress in ((40, 0.1), (50, 0.2)):
        pace.heard(beat(TRAINING, progress), now)
    assert pace.seconds_left(WORK, 50.0) == pytest.approx(80.0)


def test_after_we_were_deaf_only_what_progress_says_counts() -> None:
    pace = heard(idle(0), (10, beat(UPLOADING)), (15, beat(UPLOADING, up=100)))
    pace.interrupted()
    assert pace.seconds_left(WORK, 16.0) is None
    for now, up in ((100, 150), (105, 200), (110, 250)):
        pace.heard(beat(UPLOADING, up=up), now)
    assert pace.seconds_left(WORK, 110.0) is None
