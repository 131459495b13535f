"""Runtimes by name: the entry points of the group `midge.runtimes`, ours and those a user installs."""

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from host.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.runtimes.base import Runtime

GROUP = "midge.runtimes"
# What a runtime of ours imports that the base installation does not bring.
_NEEDS = {
    "edge_agent.runtimes.keras": ("tensorflow", "keras"),
    # No wheel of it exists for 32-bit systems.
    "edge_agent.runtimes.litert": ("ai_edge_litert",),
}


def available() -> tuple[str, ...]:
    """Names of the runtimes that could be created here; imports none of them."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP) if not _missing(point)}))


def create(name: str) -> "Runtime":
    """Make the runtime called `name`; raises ConfigError when it is unknown, lacks a package, or fails."""
    points = entry_points(group=GROUP, name=name)
    if not points:
        raise ConfigError(
            f"runtime {name!r} is not installed here; there is: {', '.join(available()) or 'none'}"
        )
    point = next(iter(points))
    if missing := _missing(point):
        raise ConfigError(f"runtime {name!r} needs {' and '.join(missing)}: install them on this device")
    try:
        runtime: Runtime = point.load()()
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"runtime {name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}; "
            "mend or reinstall its package on this device"
        ) from error
    return runtime


def _missing(point: EntryPoint) -> list[str]:
    return [package for package in _NEEDS.get(point.module, ()) if find_spec(package) is None]
