import pytest
from pydantic import ValidationError

from aggregator.run_settings import RunSettings, read_run_settings
from broker.control import SettingValue
from broker.messages import RateSchedule
from host.errors import ConfigError


def test_by_default_a_round_trains_one_epoch() -> None:
    training = RunSettings().training(9)
    assert (training.epochs, training.steps, training.seed) == (1, None, 9)


def test_steps_replace_epochs() -> None:
    training = RunSettings(steps=50).training(9)
    assert (training.epochs, training.steps) == (None, 50)


def test_devices_are_told_what_concerns_their_training() -> None:
    settings = RunSettings(
        epochs=3,
        batch_size=16,
        learning_rate=0.25,
        proximal=0.1,
        clip_norm=2.0,
        short_batch="drop",
        optimizer_state="keep",
        validation_fraction=0.0,
    )
    training = settings.training(1)
    assert training.model_dump(exclude={"steps", "seed"}) == {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.25,
        "schedule": None,
        "proximal": 0.1,
        "clip_norm": 2.0,
        "short_batch": "drop",
        "optimizer_state": "keep",
        "validation_fraction": 0.0,
    }


def test_devices_are_told_which_part_of_the_runs_schedule_their_round_is() -> None:
    settings = RunSettings(rounds=20, schedule="cosine", warmup_rounds=2, final_rate=0.1)
    fourth = RateSchedule(shape="cosine", begin=3, end=4, rounds=20, warmup_rounds=2, final_rate=0.1)
    assert settings.training(1, 3).schedule == fourth
    assert settings.training(1, rounds=20).schedule == fourth.model_copy(update={"begin": 0, "end": 20})
    assert RunSettings(rounds=2, warmup_rounds=1).training(1).schedule == RateSchedule(
        shape="constant", begin=0, end=1, rounds=2, warmup_rounds=1
    )


def test_without_a_word_devices_train_with_litert() -> None:
    assert RunSettings().runtime == "litert"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1, "steps": 1}, "give epochs or steps, not both"),
        ({"target": 2, "quorum": 3}, "quorum 3 is above target 2: no round could close"),
        ({"deadline_s": 60, "min_deadline_s": 90}, "min_deadline_s 90 is above deadline_s 60"),
        ({"min_over_selection": 1.5}, "min_over_selection 1.5 is above over_selection 1"),
        ({"rounds": 4, "warmup_rounds": 5}, "warmup_rounds 5 is above rounds 4"),
        (
            {"final_rate": 0.1},
            "final_rate is where a schedule ends: set schedule to linear or cosine as well",
        ),
        (
            {"schedule": "step"},
            "schedule: input should be 'constant', 'linear' or 'cosine', not 'step'",
        ),
        ({"proximal": -1}, "proximal: input should be greater than or equal to 0, not -1"),
        ({"clip_norm": 0}, "clip_norm: input should be greater than 0, not 0"),
        ({"roundz": 1}, "roundz is not a setting of a run; did you mean rounds?"),
        ({"qwxyz": 1}, "qwxyz is not a setting of a run"),
        ({"rounds": "many"}, None),
        ({"fraction": 0}, "fraction: input should be greater than 0, not 0"),
        ({"over_selection": 0.5}, "over_selection: input should be greater than or equal to 1, not 0.5"),
        ({"deadline_s": 1e9}, "deadline_s: input should be less than or equal to 2592000, not 1000000000.0"),
        ({"deadline_s": float("nan")}, None),
        ({"max_norm": float("inf")}, None),
        ({"optimizer_state": "drop"}, "optimizer_state: input should be 'reset' or 'keep', not 'drop'"),
        (
            {"stop_when": "acc > 9"},
            "stop_when: metric, >= or <=, and number are needed, as in 'accuracy >= 0.97', not 'acc > 9'",
        ),
        ({"seed": 1 << 63}, None),
        ({"target": 5000}, "target: input should be less than or equal to 4096, not 5000"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, SettingValue], message: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        read_run_settings(values)
    assert "\n" not in str(caught.value)
    assert message is None or str(caught.value) == message


def test_numbers_may_come_as_text_from_a_command_line() -> None:
    assert read_run_settings({"rounds": "3", "learning_rate": "0.1"}).rounds == 3


def test_a_runs_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunSettings().rounds = 3  # type: ignore[misc]
