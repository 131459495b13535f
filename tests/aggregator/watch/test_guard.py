from functools import partial

import pytest

from aggregator.watch.guard import Guard


def fails(error: BaseException) -> None:
    raise error


def test_what_fails_is_passed_over_and_told_once_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard()
    assert guard.run("the view", lambda: None)
    for error in (ValueError("a"), ValueError("b"), OSError("c")):
        assert not guard.run("the view", partial(fails, error))
    assert [record.message for record in caplog.records] == ["the view failed, rounds go on (said once)"] * 2


def test_what_ends_the_process_still_does() -> None:
    with pytest.raises(KeyboardInterrupt):
        Guard().run("the view", partial(fails, KeyboardInterrupt()))
