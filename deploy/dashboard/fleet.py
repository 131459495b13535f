"""Which devices are shown, and in which order."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.monitor import DeviceDocument
from deploy.viewing.devices import fits, remark
from deploy.viewing.words import heights

PER_PAGE = 24
SPARK_POINTS = 20
# In the order of a round, then what needs a look.
STATES = ("idle", "fetching", "training", "uploading", "evaluating", "displaced", "lost")

Order = Callable[[DeviceDocument], Any]
LAST = float("inf")


def _or_least(value: float | None) -> float:
    return -LAST if value is None else value


ORDERS: Mapping[str, Order] = {
    "name": lambda _: (),
    "state": lambda device: _rank(device.state),
    "progress": lambda device: -device.progress,
    "time left": lambda device: -_or_least(device.seconds_left),
    "loss, highest first": lambda device: -_or_least(device.loss),
    "reliability, lowest first": lambda device: LAST if device.reliability is None else device.reliability,
    "temperature, hottest first": lambda device: -_or_least(device.temperature_c),
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
    found = [one for one in devices if _is_shown(one, choice.shown) and fits(one, choice.words)]
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
    step = width / (len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{height * (1 - up):.1f}" for index, up in enumerate(heights(values, level=0.0))
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
