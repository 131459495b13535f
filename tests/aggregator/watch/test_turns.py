from collections.abc import Callable

from aggregator.watch.turns import Turns


def _into(served: list[str]) -> Callable[[str], bool]:
    def serve(name: str) -> bool:
        served.append(name)
        return True

    return serve


def test_who_waited_longest_comes_first() -> None:
    turns, served = Turns(), list[str]()

    def serve(name: str) -> bool:
        if len(served) % 3 == 2:
            served.append("-")
            return False
        served.append(name)
        return True

    for _ in range(3):
        turns.take(("a", "b", "c"), serve, 10)
    assert served == ["a", "b", "-", "c", "a", "-", "b", "c", "-"]


def test_a_look_serves_no_more_than_it_may() -> None:
    turns, served = Turns(), list[str]()
    for _ in range(3):
        turns.take(("a", "b", "c"), _into(served), 2)
    assert served == ["a", "b", "c", "a", "b", "c"]


def test_who_left_has_no_turn_and_who_comes_back_has_one() -> None:
    turns, served = Turns(), list[str]()
    for names in ({"a"}, set[str](), {"a", "b"}):
        turns.take(sorted(names), _into(served), 10)
    assert served == ["a", "a", "b"]
