"""`midge-agent check`: look at everything that running needs, and say what is wrong."""

import sys
from collections.abc import Callable
from itertools import islice

from broker import wire
from broker.messages import Federation
from broker.probe import probe, retained
from broker.signing import successor
from broker.topics import FEDERATION, ROUND
from edge_agent.identity import Identity
from edge_agent.pin import Pin
from edge_agent.runtimes.registry import available
from edge_agent.settings import AgentSettings
from edge_agent.store import FolderInUseError, Store
from edge_agent.training import inspect_data
from host.errors import ConfigError, DataError, MidgeError, WireError
from host.exits import ExitCode

# As many as are read at a glance.
MAX_LABELS = 20


def check(settings: AgentSettings) -> ExitCode:
    """Print a line for each part; the first fault decides the exit status."""
    _say(True, "settings", f"this is {settings.device} of {settings.broker.topics.root}")
    outcome = ExitCode.OK
    for name, look in PARTS.items():
        try:
            code, text = look(settings)
        except (ConfigError, DataError) as error:
            code, text = ExitCode.BAD_CONFIG, str(error)
        except MidgeError as error:
            code, text = ExitCode.FAILED, str(error)
        _say(code is ExitCode.OK, name, text)
        outcome = outcome or code
    return outcome


def _say(fine: bool, name: str, text: str) -> None:  # noqa: FBT001
    sys.stdout.write(f"{'ok   ' if fine else 'WRONG'} {name}: {text}\n")
    sys.stdout.flush()


def _data(settings: AgentSettings) -> tuple[ExitCode, str]:
    found = inspect_data(settings.data.model_dump(mode="json"), nice=settings.nice)
    labels = found["labels"]
    shown = dict(islice(labels.items(), MAX_LABELS))
    more = f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
    return ExitCode.OK, f"examples {found['examples']}, shape {found['shape']}, labels {shown}{more}"


def _runtimes(_settings: AgentSettings) -> tuple[ExitCode, str]:
    if names := available():
        return ExitCode.OK, ", ".join(names)
    return ExitCode.BAD_CONFIG, (
        "none can be used, so no task can be trained: LiteRT, which comes with midge, is for 64-bit systems "
        "only; set up one of these, or pip install 'midge[keras-agent]'"
    )


def _state(settings: AgentSettings) -> tuple[ExitCode, str]:
    try:
        Store(settings.state_folder).close()
    except FolderInUseError:
        return ExitCode.OK, f"{settings.state_folder} is used by an agent that runs now"
    return ExitCode.OK, f"{settings.state_folder} can be used"


def _broker(settings: AgentSettings) -> tuple[ExitCode, str]:
    identity = Identity(settings.state_folder, settings.broker)
    if settings.enrolment is not None and identity.record.current is None:
        return ExitCode.OK, f"not enrolled yet: the agent will be, with {settings.enrolment.token_file}"
    return probe(identity.broker, f"{settings.device}-check")


def _key(settings: AgentSettings) -> tuple[ExitCode, str]:
    """Compare the pinned key with what the federation says, which proves nothing but finds mistakes."""
    pinned, told = Pin(settings.aggregator_key, settings.state_folder).key, _told_key(settings)
    if pinned is not None and told not in (None, pinned):
        pinned = _successor(settings, pinned)
    if pinned is None:
        whom = f"whoever can write {settings.broker.topics.topic(ROUND)} is obeyed"
        says = f"; the federation says {told}: compare it with `midge-aggregator key`" if told else ""
        return ExitCode.OK, f"none is pinned, {whom}{says}"
    if told is None:
        return ExitCode.OK, f"{pinned} is pinned; the federation did not say its own"
    if told != pinned:
        return ExitCode.BAD_CONFIG, (
            f"{pinned} is pinned, but the federation says {told}: compare with `midge-aggregator key`, "
            "and mend aggregator_key if that differs; otherwise a stranger writes to the federation"
        )
    return ExitCode.OK, f"{pinned} is pinned, and is the federation's"


def _successor(settings: AgentSettings, pinned: str) -> str:
    """The key that the retained announcement says has followed the pinned one."""
    topic = settings.broker.topics.topic(ROUND)
    broker = Identity(settings.state_folder, settings.broker).broker
    payload = retained(broker, f"{settings.device}-check", topic)
    try:
        return successor(topic, payload, pinned) if payload else pinned
    except WireError:
        return pinned


def _told_key(settings: AgentSettings) -> str | None:
    topic = settings.broker.topics.topic(FEDERATION)
    broker = Identity(settings.state_folder, settings.broker).broker
    payload = retained(broker, f"{settings.device}-check", topic)
    try:
        return wire.decode(Federation, payload).aggregator_key if payload else None
    except WireError:
        return None


PARTS: dict[str, Callable[[AgentSettings], tuple[ExitCode, str]]] = {
    "data": _data,
    "runtimes": _runtimes,
    "state folder": _state,
    "broker": _broker,
    "aggregator key": _key,
}
