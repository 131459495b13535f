import pytest

from aggregator.claim import Claim
from broker.messages import Federation
from broker.monitor import AggregatorDocument

KEYS = ("1" * 64, "5" * 64, "9" * 64)
OURS = 100


class Watched:
    """A claim, and how often what follows from it."""

    def __init__(self) -> None:
        self.beats = self.yielded = self.insisted = 0
        self.claim = Claim(OURS, KEYS[1], self.beat, 2.0, self.yield_to, self.insist)

    def beat(self) -> None:
        self.beats += 1

    def yield_to(self, _why: str) -> None:
        self.yielded += 1

    def insist(self) -> None:
        self.insisted += 1

    def hear(self, session: int, key: str, *, retained: bool = False) -> tuple[int, int]:
        other = Federation(session=session, version="", heartbeat_s=1.0, aggregator_key=key)
        self.claim.heard_federation(other, retained)
        return self.yielded, self.insisted


@pytest.mark.parametrize(
    ("session", "key", "outcome"),
    [
        (OURS + 1, KEYS[0], (1, 0)),
        (OURS - 1, KEYS[2], (0, 1)),
        (OURS, KEYS[1], (0, 0)),
        (OURS, KEYS[2], (1, 0)),
        (OURS, KEYS[0], (0, 1)),
    ],
    ids=["younger", "older", "ourselves", "as old, higher key", "as old, lower key"],
)
def test_the_younger_of_two_serves(session: int, key: str, outcome: tuple[int, int]) -> None:
    assert Watched().hear(session, key) == outcome


def test_what_the_broker_kept_of_an_older_one_is_no_rival() -> None:
    assert Watched().hear(OURS - 1, KEYS[0], retained=True) == (0, 0)


def test_what_the_broker_kept_of_a_younger_one_is() -> None:
    assert Watched().hear(OURS + 1, KEYS[0], retained=True) == (1, 0)


def test_it_beats_in_its_rhythm() -> None:
    watched = Watched()
    for now in (10.0, 11.0, 12.0, 13.9, 14.0):
        watched.claim.renew(now)
    assert watched.beats == 3


@pytest.mark.parametrize(
    ("online", "retained", "beats"), [(False, False, 1), (False, True, 0), (True, False, 0)]
)
def test_only_a_fresh_word_of_death_is_contradicted(online: bool, retained: bool, beats: int) -> None:  # noqa: FBT001 - cases
    watched = Watched()
    watched.claim.heard_beat(AggregatorDocument(online=online, session=OURS), retained)
    assert watched.beats == beats
