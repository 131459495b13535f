import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import host.loop
from host.loop import Jobs, Loop


def never() -> float | None:
    return None


def nothing() -> None:
    """No deadline comes."""


def fail(error: Exception) -> None:
    raise error


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def jobs(loop: Loop) -> Iterator[Jobs]:
    made = Jobs(loop)
    yield made
    made.close()


def test_actions_run_in_the_order_in_which_they_were_posted(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(5):
        loop.post(lambda number=number: seen.append(number))  # type: ignore[misc]
    loop.stop()
    loop.post(lambda: seen.append(99))
    loop.run(never, nothing)
    assert seen == [0, 1, 2, 3, 4]


def test_other_threads_post_and_the_loops_thread_acts(loop: Loop) -> None:
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(threading.current_thread())
        loop.stop()

    threading.Timer(0.01, lambda: loop.post(act)).start()
    loop.run(never, nothing)
    assert threads == [threading.current_thread()]


def test_a_deadline_is_met_when_nothing_else_happens(loop: Loop) -> None:
    due = time.monotonic() + 0.02
    met: list[float] = []

    def on_deadline() -> None:
        met.append(time.monotonic())
        loop.stop()

    loop.run(lambda: None if met else due, on_deadline)
    assert len(met) == 1
    assert met[0] >= due


def test_a_deadline_that_passed_comes_before_what_is_queued(loop: Loop) -> None:
    seen: list[str] = []
    due: list[float | None] = [time.monotonic() - 1.0]

    def on_deadline() -> None:
        due[0] = None
        seen.append("deadline")

    loop.post(lambda: seen.append("action"))
    loop.stop()
    loop.run(lambda: due[0], on_deadline)
    assert seen == ["deadline", "action"]


def test_a_flood_of_actions_does_not_starve_deadlines(loop: Loop) -> None:
    met: list[int] = []
    for _ in range(100):
        loop.post(nothing)
    loop.stop()
    loop.run(lambda: 0.0, lambda: met.append(1))
    assert len(met) >= 100


def test_only_droppable_actions_are_dropped_when_the_queue_is_full() -> None:
    loop = Loop(limit=2)
    seen: list[str] = []
    assert loop.post(lambda: seen.append("one"), droppable=True)
    assert loop.post(lambda: seen.append("two"))
    assert not loop.post(lambda: seen.append("three"), droppable=True)
    assert loop.post(lambda: seen.append("four"))
    assert loop.dropped == 1
    loop.stop()
    loop.run(never, nothing)
    assert seen == ["one", "two", "four"]


def test_an_action_that_raises_ends_the_loop(loop: Loop) -> None:
    loop.post(lambda: fail(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        loop.run(never, nothing)


def run_until(loop: Loop, finished: Callable[[], bool]) -> None:
    while not finished():
        action = loop._inbox.get(20.0)
        assert action is not None
        action()


def test_a_jobs_result_comes_back_to_the_loop(loop: Loop, jobs: Jobs) -> None:
    results: list[tuple[int, threading.Thread]] = []
    workers: list[threading.Thread] = []

    def work() -> int:
        workers.append(threading.current_thread())
        return 42

    jobs.submit(work, lambda result: results.append((result, threading.current_thread())), fail)
    run_until(loop, lambda: bool(results))
    assert results == [(42, threading.current_thread())]
    assert workers != [threading.current_thread()]


def test_what_a_job_raises_comes_back_to_the_loop(loop: Loop, jobs: Jobs) -> None:
    errors: list[Exception] = []
    failure = ValueError("no such layer")
    jobs.submit(lambda: fail(failure), lambda _: None, errors.append)
    run_until(loop, lambda: bool(errors))
    assert errors == [failure]


def test_jobs_run_one_after_the_other(loop: Loop, jobs: Jobs) -> None:
    first_may_end, ran, done = threading.Event(), list[str](), list[str]()

    def first() -> str:
        assert first_may_end.wait(20.0)
        ran.append("first")
        return "first"

    def second() -> str:
        ran.append("second")
        return "second"

    jobs.submit(first, done.append, fail)
    jobs.submit(second, done.append, fail)
    assert ran == []
    first_may_end.set()
    run_until(loop, lambda: len(done) == 2)
    assert ran == done == ["first", "second"]


def test_closing_waits_for_the_running_job_and_quietly_forgets_the_others(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = Jobs(loop)
    running, ran = threading.Event(), list[str]()

    def first() -> None:
        running.set()
        closing.wait(20.0)
        ran.append("first")

    closing = threading.Event()
    jobs.submit(first, lambda _: None, fail)
    jobs.submit(lambda: ran.append("second"), lambda _: None, fail)
    assert running.wait(20.0)
    threading.Timer(0.01, closing.set).start()
    jobs.close()
    assert ran == ["first"]
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_idle_loop_looks_up_now_and_then(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that came in the instant before the wait has its handler run only after it."""
    monkeypatch.setattr(host.loop, "LONGEST_WAIT_S", 0.001)
    left = [3]

    def count() -> None:
        left[0] -= 1
        if not left[0]:
            loop.stop()

    for due in (None, time.monotonic() + 1e6):
        left[0] = 3
        loop = Loop()

        def next_deadline(due: float | None = due) -> float | None:
            count()
            return due

        loop.run(next_deadline, nothing)
