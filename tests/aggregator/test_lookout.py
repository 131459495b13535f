import pytest

from aggregator.lookout import GRACE_S, Lookout
from broker.monitor import AggregatorDocument

OWN = 7


def word(session: int = 9, *, online: bool = True, every_s: float = 2.0) -> AggregatorDocument:
    return AggregatorDocument(online=online, session=session, renewed_every_s=every_s)


@pytest.fixture
def lookout() -> Lookout:
    """Listening since 10.0."""
    made = Lookout(OWN, take_over=False)
    made.listening(10.0)
    return made


def test_a_federation_without_a_word_is_free_after_a_moment(lookout: Lookout) -> None:
    assert not lookout.decided(10.0)
    assert lookout.decided(10.0 + GRACE_S)
    assert lookout.rival is None


def test_nothing_is_decided_before_the_broker_answers() -> None:
    assert not Lookout(OWN, take_over=False).decided(1e9)


def test_silence_while_cut_off_decides_nothing(lookout: Lookout) -> None:
    lookout.cut_off()
    assert not lookout.decided(1e9)


def test_a_beat_is_a_rival(lookout: Lookout) -> None:
    lookout.heard(word(), 10.1, retained=True)
    lookout.heard(word(), 12.0, retained=False)
    assert lookout.decided(12.0)
    assert lookout.rival == word()


@pytest.mark.parametrize(("every_s", "silence_s"), [(2.0, 6.0), (0.0, 15.0), (1e9, 180.0)])
def test_a_retained_word_without_three_beats_is_of_a_dead_one(
    lookout: Lookout, every_s: float, silence_s: float
) -> None:
    lookout.heard(word(every_s=every_s), 10.0, retained=True)
    assert not lookout.decided(9.9 + silence_s)
    assert lookout.decided(10.0 + silence_s)
    assert lookout.rival is None


def test_a_will_and_the_word_of_our_own_last_process_are_not_waited_for() -> None:
    for document in (word(online=False), word(OWN)):
        lookout = Lookout(OWN, take_over=False)
        lookout.listening(10.0)
        lookout.heard(document, 10.1, retained=True)
        assert lookout.decided(10.1)
        assert lookout.rival is None


def test_a_living_copy_of_our_own_ledger_is_a_rival(lookout: Lookout) -> None:
    lookout.heard(word(OWN), 10.1, retained=False)
    assert lookout.rival is not None


def test_the_highest_session_is_known_also_when_taking_over() -> None:
    lookout = Lookout(OWN, take_over=True)
    lookout.listening(10.0)
    lookout.heard_session(12)
    lookout.heard(word(11), 10.1, retained=False)
    assert lookout.decided(10.1)
    assert (lookout.rival, lookout.highest) == (None, 12)
