"""`midge-agent check`: look at everything that running needs, and say what is wrong."""

import sys
from collections.abc import Callable
from itertools import islice

from broker.probe import probe
from edge_agent.runtimes.registry import available
from edge_agent.settings import AgentSettings
from edge_agent.store import FolderInUseError, Store
from edge_agent.training import inspect_data
from host.errors import ConfigError, DataError, MidgeError
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
    return (
        ExitCode.BAD_CONFIG,
        "none is installed, so no task can be trained: pip install 'midge[keras-agent]'",
    )


def _state(settings: AgentSettings) -> tuple[ExitCode, str]:
    try:
        Store(settings.state_folder).close()
    except FolderInUseError:
        return ExitCode.OK, f"{settings.state_folder} is used by an agent that runs now"
    return ExitCode.OK, f"{settings.state_folder} can be used"


def _broker(settings: AgentSettings) -> tuple[ExitCode, str]:
    return probe(settings.broker, f"{settings.device}-check")


PARTS: dict[str, Callable[[AgentSettings], tuple[ExitCode, str]]] = {
    "data": _data,
    "runtimes": _runtimes,
    "state folder": _state,
    "broker": _broker,
}
