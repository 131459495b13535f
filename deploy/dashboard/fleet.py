"""Which devices are shown, and in which order."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.monitor import DeviceDocument
from deploy.viewing.devices import remark

PER_PAGE = 24
SPARK_POINTS = 20
# In the order of a round, then what needs a look.
STATES = ("idle", "fetching", "training", "uploading", "evaluating", "displaced", "lost")

Order = Callable[[DeviceDocument], Any]
LAST = float("inf")
ORDERS: Mapping[str, Order] = {
    "name": lambda _: (),
    "state": lambda device: _rank(device.state),
    "progress": lambda device: -device.progress,
    "time left": lambda device: LAST if device.seconds_left is None else -device.seconds_left,
    "loss, highest first": lambda device: LAST if device.loss is None else -device.loss,
    "reliability, lowest first": lambda device: LAST if device.reliability is None else device.reliability,
    "temperature, hottest first": lambda device: -(device.temperature_c or -LAST),
}
NEEDS_CARE = "needs a look"
SHOWN = ("all", "live", NEEDS_CARE, *STATES)


@dataclass(frozen=True)
class Choice:
    """What a browser asked for."""

    words: str = ""
    shown: str = "all"
    order: str = "name"
    page: int = 1


@dataclass(frozen=True)
class Page:
    """A page of devices."""

    devices: tuple[DeviceDocument, ...]
    number: int
    pages: int
    found: int


def choose(devices: Iterable[DeviceDocument], choice: Choice) -> Page:
    """Filter, sort and cut; devices come sorted by id, which decides between equals."""
    words = choice.words.casefold().split()
    found = [one for one in devices if _is_shown(one, choice.shown) and _has(one, words)]
    found.sort(key=ORDERS[choice.order])
    pages = max(1, -(-len(found) // PER_PAGE))
    number = min(max(1, choice.page), pages)
    return Page(tuple(found[(number - 1) * PER_PAGE : number * PER_PAGE]), number, pages, len(found))


def counted(devices: Iterable[DeviceDocument]) -> dict[str, int]:
    """How many devices are in each state, in a round's order."""
    counts = Counter(one.state for one in devices)
    return {state: counts[state] for state in sorted(counts, key=lambda state: (_rank(state), state))}


def spark(values: Sequence[float], width: float = 100.0, height: float = 20.0) -> str:
    """The points of a polyline through the newest values, scaled to a box; empty of fewer than two."""
    values = values[-SPARK_POINTS:]
    if len(values) < 2:  # noqa: PLR2004  a line has two ends
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{height * (1 - (value - low) / span):.1f}" for index, value in enumerate(values)
    )


def needs_care(device: DeviceDocument) -> str:
    """Why somebody should look at a device; empty while nobody needs to."""
    return remark(device) or ("" if device.live else "lost")


def _rank(state: str) -> int:
    return STATES.index(state) if state in STATES else len(STATES)


def _is_shown(device: DeviceDocument, shown: str) -> bool:
    match shown:
        case "all":
            return True
        case "live":
            return device.live
        case _ if shown == NEEDS_CARE:
            return bool(needs_care(device))
        case _:
            return device.state == shown


def _has(device: DeviceDocument, words: Sequence[str]) -> bool:
    """Whether each word is in its id, its tags, its state or its version."""
    text = " ".join((device.device, device.state, device.version, *device.tags, *device.runtimes)).casefold()
    return all(word in text for word in words)
