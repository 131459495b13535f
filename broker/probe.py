"""Try the broker once: what the services' `check` verbs say about it."""

import queue

from broker.advice import advised
from broker.events import Connected, Disconnected, Received, Refused, SessionEvent, Unreachable
from broker.session import Session
from broker.settings import BrokerSettings
from host.exits import ExitCode

ANSWER_S = 5.0
RETAINED_S = 1.0
MAX_COLLECTED = 20_000


def probe(settings: BrokerSettings, name: str) -> tuple[ExitCode, str]:
    """Connect, and say what came of it; raises ConfigError for credentials that cannot be read."""
    match _first_event(settings, name):
        case Connected():
            return ExitCode.OK, f"connected to {settings.url}"
        case Refused(reason=reason):
            return ExitCode.REFUSED_CREDENTIALS, f"{settings.url} refuses us: {advised(reason)}"
        case Unreachable(reason=reason) | Disconnected(reason=reason):
            return ExitCode.UNREACHABLE, f"{settings.url} cannot be reached: {advised(reason)}"
    return ExitCode.UNREACHABLE, f"{settings.url} does not answer"


def _first_event(settings: BrokerSettings, name: str) -> SessionEvent | None:
    answers: queue.SimpleQueue[SessionEvent] = queue.SimpleQueue()
    session = Session(settings, name, answers.put, will=None, subscriptions=())
    session.start()
    try:
        return answers.get(timeout=settings.connect_timeout_s + ANSWER_S)
    except queue.Empty:
        return None
    finally:
        session.stop()


def retained(settings: BrokerSettings, name: str, topic: str) -> bytes | None:
    """What the broker retains on a topic; None when that is nothing, or it cannot be asked."""
    return (collect(settings, name, topic, enough=1) or {}).get(topic)


def collect(
    settings: BrokerSettings, name: str, filter_: str, *, enough: int = MAX_COLLECTED
) -> dict[str, bytes] | None:
    """What the broker retains on all topics of a filter; None when it cannot be asked.

    Of more than it queues for a client, the broker drops what is too much without a word.
    """
    events: queue.SimpleQueue[SessionEvent] = queue.SimpleQueue()
    session = Session(settings, name, events.put, will=None, subscriptions=[(filter_, 1)])
    session.start()
    wait_s = settings.connect_timeout_s + ANSWER_S
    found: dict[str, bytes] | None = None
    try:
        while found is None or len(found) < enough:
            match events.get(timeout=wait_s):
                case Connected():
                    # Nothing tells that there is nothing: what is there comes at once.
                    found, wait_s = {}, RETAINED_S
                case Received(topic=topic, payload=payload, retained=True) if found is not None:
                    found[topic] = payload
                case Received() if found is not None:
                    # What is said now comes after all that was retained.
                    return found
                case Refused() | Unreachable() | Disconnected():
                    return None
    except queue.Empty:
        pass
    finally:
        session.stop()
    return found
