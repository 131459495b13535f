import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.control import Reply, Request, Verb
from broker.events import Received, SessionEvent
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import CONTROL_REPLY, CONTROL_REQUEST, Topics
from broker.wire import decode, encode
from deploy.command.control import CredentialsError, UnansweredError, ask, new_request
from host.errors import ConfigError


@contextmanager
def aggregator(settings: BrokerSettings, replies: list[list[str]]) -> Iterator[list[Request]]:
    """Answers the n-th request with the n-th list of texts; what it was asked is in the list."""
    asked: list[Request] = []
    topics, ready = settings.topics, threading.Event()

    def on_event(event: SessionEvent) -> None:
        ready.set()
        if isinstance(event, Received):
            address = topics.parse(event.topic)
            assert address is not None
            request = decode(Request, event.payload)
            asked.append(request)
            for text in replies.pop(0) if replies else []:
                other = "0" * 16 if text == "another's" else request.id
                reply = encode(Reply(id=other, ok=True, text=text))
                session.publish(topics.topic(CONTROL_REPLY, user=address.fields["user"]), reply)

    session = Session(
        settings, "aggregator", on_event, will=None, subscriptions=[(topics.filter(CONTROL_REQUEST), 1)]
    )
    session.start()
    assert ready.wait(10)
    try:
        yield asked
    finally:
        session.stop()


def test_a_request_gets_its_reply_and_no_other(mosquitto: Mosquitto) -> None:
    with aggregator(mosquitto.settings("aggregator"), [["another's", "started"]]) as asked:
        request = new_request(Verb.START, "digits", {"rounds": 3})
        reply = ask(mosquitto.settings("operator"), request, 10)
    assert reply.text == "started"
    assert asked == [request]


def test_a_request_is_repeated_under_its_id_until_it_is_answered(mosquitto: Mosquitto) -> None:
    with aggregator(mosquitto.settings("aggregator"), [[], ["done"]]) as asked:
        reply = ask(mosquitto.settings("operator"), new_request(Verb.STOP), 20)
    assert reply.text == "done"
    assert len({request.id for request in asked}) == 1
    assert len(asked) == 2


def test_without_an_aggregator_it_says_so(mosquitto: Mosquitto) -> None:
    with pytest.raises(UnansweredError, match="no aggregator of federation 'lab' replies"):
        ask(mosquitto.settings("operator"), new_request(Verb.RUNS), 0.5)


def test_an_account_that_may_not_command_is_told(mosquitto: Mosquitto) -> None:
    with pytest.raises(CredentialsError, match="'monitor' may not write"):
        ask(mosquitto.settings("monitor"), new_request(Verb.RUNS), 10)


def test_a_wrong_password_is_told(mosquitto: Mosquitto) -> None:
    settings = mosquitto.settings("operator").model_copy(update={"username": "aggregator"})
    with pytest.raises(CredentialsError, match="refused account 'aggregator'"):
        ask(settings, new_request(Verb.RUNS), 10)


def test_an_account_is_needed() -> None:
    with pytest.raises(ConfigError, match="--username"):
        ask(BrokerSettings(url="mqtt://127.0.0.1"), new_request(Verb.RUNS), 1)


def test_who_waits_may_give_up(mosquitto: Mosquitto, topics: Topics) -> None:
    assert mosquitto.settings("operator").topics == topics

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(UnansweredError):
        ask(mosquitto.settings("operator"), new_request(Verb.RUNS), 60, meanwhile=give_up)
