"""Two aggregators on one federation: at most one serves."""

from collections.abc import Iterator
from contextlib import contextmanager

from broker.control import Verb
from broker.events import Received
from broker.messages import Federation
from broker.monitor import AggregatorDocument
from broker.topics import FEDERATION, MONITOR_AGGREGATOR
from broker.wire import decode, encode
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.system.lab import TASK, Document, Lab


def until_served(lab: Lab, above: int = 0) -> Document:
    """Wait until an aggregator with a higher session number says that it lives."""

    def found(seen: dict[str, Document]) -> Document | None:
        document = seen.get("aggregator", {})
        return document if document.get("online") and document["session"] > above else None

    return lab.until(found)


@contextmanager
def forger(lab: Lab, *subscriptions: str) -> Iterator[Peer]:
    """Somebody else under the aggregator's account."""
    with Peer(lab.account("aggregator"), "forger", *subscriptions) as peer:
        yield peer


def test_a_second_one_refuses_to_start_while_the_first_beats(lab: Lab) -> None:
    first = lab.start_aggregator()
    session = until_served(lab)["session"]
    second = lab.start_aggregator(name="second")
    assert second.wait() == ExitCode.ANOTHER_AGGREGATOR
    assert f"another aggregator (session {session}" in lab.log("second")
    assert "--take-over" in lab.log("second")
    assert first.alive
    assert lab.ask(Verb.RUNS).ok, "the first one serves as before"
    assert {d["session"] for name, d in lab.history if name == "aggregator"} == {session}


def test_a_second_one_serves_once_the_first_is_dead(lab: Lab) -> None:
    first = lab.start_aggregator()
    session = until_served(lab)["session"]
    first.kill()
    lab.start_aggregator(name="second")
    assert until_served(lab, session)["online"]


def test_the_word_of_a_dead_one_that_the_broker_kept_does_not_keep_others_out(lab: Lab) -> None:
    word = AggregatorDocument(online=True, session=1 << 40, renewed_every_s=0.2)
    with forger(lab) as peer:
        peer.send(lab.topics.topic(MONITOR_AGGREGATOR), word.payload(), retain=True)
    lab.start_aggregator()
    assert until_served(lab, word.session)["session"] == word.session + 1


def test_one_that_is_told_to_take_over_does_and_the_other_stops(lab: Lab) -> None:
    first = lab.start_aggregator()
    session = until_served(lab)["session"]
    second = lab.start_aggregator(TASK, "--take-over", name="second")
    assert first.wait() == ExitCode.ANOTHER_AGGREGATOR
    assert "this one stops" in lab.log("aggregator")
    until_served(lab, session)
    assert lab.ask(Verb.RUNS).ok
    assert second.alive
    assert lab.documents["aggregator"]["online"], "the first one went without a word"


def test_of_two_with_one_client_id_the_younger_stays(lab: Lab) -> None:
    first = lab.start_aggregator(client_id="fixed")
    session = until_served(lab)["session"]
    lab.start_aggregator(TASK, "--take-over", name="second", client_id="fixed")
    # Mosquitto 2.0 closes the older connection without a reason: the session number decides.
    assert first.wait() == ExitCode.ANOTHER_AGGREGATOR
    until_served(lab, session)
    assert lab.ask(Verb.RUNS).ok


def test_one_with_a_lower_session_that_speaks_is_contradicted(lab: Lab) -> None:
    lab.start_aggregator()
    session = until_served(lab)["session"]
    topic = lab.topics.topic(FEDERATION)
    with forger(lab, topic) as peer:
        key = decode(Federation, peer.until(Received).payload).aggregator_key
        older = Federation(session=5, version="0", heartbeat_s=1.0, aggregator_key=key)
        peer.send(topic, encode(older), retain=True)
        peer.until(Received, lambda heard: decode(Federation, heard.payload).session == 5)
        peer.until(Received, lambda heard: decode(Federation, heard.payload).session == session)


def test_a_late_will_of_ones_own_is_corrected(lab: Lab) -> None:
    lab.start_aggregator()
    session = until_served(lab)["session"]
    dead = AggregatorDocument(online=False, session=session)
    with forger(lab) as peer:
        peer.send(lab.topics.topic(MONITOR_AGGREGATOR), dead.payload(), retain=True)
        lab.until(lambda seen: not seen["aggregator"]["online"])
    assert until_served(lab)["session"] == session
