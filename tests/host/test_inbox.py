import signal
import threading

from hypothesis import given
from hypothesis import strategies as st

from host.inbox import Inbox


def test_events_come_out_in_the_order_of_their_arrival() -> None:
    inbox: Inbox[int] = Inbox(10)
    for number in range(5):
        assert inbox.put(number)
    assert [inbox.get(0) for _ in range(6)] == [0, 1, 2, 3, 4, None]


def test_what_can_come_without_end_is_dropped_and_counted_while_full() -> None:
    inbox: Inbox[int] = Inbox(2)
    assert [inbox.put(number, droppable=True) for number in range(4)] == [True, True, False, False]
    assert inbox.put(9)
    assert inbox.dropped == 2
    assert [inbox.get(0) for _ in range(3)] == [0, 1, 9]
    assert inbox.put(7, droppable=True)


def test_waiting_ends_with_the_first_event() -> None:
    inbox: Inbox[str] = Inbox(1)
    got: list[str | None] = []
    waiting = threading.Thread(target=lambda: got.append(inbox.get(None)))
    waiting.start()
    inbox.put("here")
    waiting.join(10)
    assert got == ["here"]


@given(st.lists(st.tuples(st.booleans(), st.booleans())), st.integers(1, 5))
def test_only_what_is_not_droppable_goes_beyond_the_limit(steps: list[tuple[bool, bool]], limit: int) -> None:
    inbox: Inbox[int] = Inbox(limit)
    expected: list[int] = []
    for number, (puts, droppable) in enumerate(steps):
        if not puts:
            assert inbox.get(0) == (expected.pop(0) if expected else None)
            continue
        accepted = inbox.put(number, droppable=droppable)
        assert accepted == (not droppable or len(expected) < limit)
        expected += [number] if accepted else []


def test_a_signal_handler_may_put_in_the_middle_of_a_get() -> None:
    inbox: Inbox[int] = Inbox(1)
    handler = signal.signal(signal.SIGALRM, lambda *_: inbox.put(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        assert [inbox.get(10) for _ in range(200)] == [1] * 200
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
