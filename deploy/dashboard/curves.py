"""Metrics and bytes by round: as options of ECharts, as a table, and as a sentence.

Colours are the page's own variables, so that the pictures follow light and dark.
Source of the options: https://echarts.apache.org/en/option.html
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.monitor import Means, ParticipantDocument, RoundDocument, RoundSummary
from deploy.viewing.devices import LOSS
from deploy.viewing.prose import number
from deploy.viewing.words import UNITS, size, whole

MAX_CURVES = 6
TABLE_ROUNDS = 20
INKS = ("var(--curve-1)", "var(--curve-2)", "var(--curve-3)")
HELD_OUT, DEVICES, OWN, NEW = "held-out data", "devices' own data", "its own model", "the round's model"

Points = dict[int, float]
Options = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Values by round; a dashed one is compared with the solid one of the same ink."""

    name: str
    points: Points
    ink: int
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """Curves over rounds, or bars where `as_size`: bytes."""

    title: str
    curves: tuple[Curve, ...]
    as_size: bool = False

    @property
    def rounds(self) -> list[int]:
        """All rounds that have a value."""
        return sorted({one for curve in self.curves for one in curve.points})

    def spell(self, value: float) -> str:
        """A value as people read it."""
        return size(value) if self.as_size else number(value)

    @property
    def facts(self) -> str:
        """What it shows, in a sentence."""
        newest = [
            f"{curve.name} {self.spell(curve.points[max(curve.points)])}"
            for curve in self.curves
            if curve.points
        ]
        rounds = self.rounds
        if not rounds:
            return f"{self.title}: no round is over yet"
        return f"{self.title} by round, {rounds[0]} to {rounds[-1]}; newest: {', '.join(newest)}"

    @property
    def table(self) -> list[tuple[int, list[str]]]:
        """The newest rounds first, with a value for each curve."""
        newest = self.rounds[: -TABLE_ROUNDS - 1 : -1]
        return [
            (one, [self.spell(c.points[one]) if one in c.points else "-" for c in self.curves])
            for one in newest
        ]


def run_figures(rounds: Sequence[RoundSummary]) -> tuple[Figure, Figure, Figure]:
    """Other metrics, loss and bytes of a run."""
    held_out = {one.round: one.metrics for one in rounds}
    devices = {one.round: one.federated for one in rounds}
    others, loss = _paired({HELD_OUT: held_out, DEVICES: devices})
    traffic = Figure(
        "Bytes",
        (
            Curve("up", {one.round: float(one.bytes_up) for one in rounds}, 0),
            Curve("down", {one.round: float(one.bytes_down) for one in rounds}, 1),
        ),
        as_size=True,
    )
    return Figure("Metrics", others), Figure("Loss", loss), traffic


def device_figures(rounds: Sequence[RoundDocument], device: str) -> tuple[Figure, Figure, Figure]:
    """Other metrics and loss on a device's own validation data, and its bytes."""
    parts = {one.round: one.participants[device] for one in rounds if device in one.participants}
    own = {one: part.validation or part.training for one, part in parts.items()}
    new = {one: part.evaluation for one, part in parts.items()}
    others, loss = _paired({OWN: own, NEW: new})
    traffic = Figure(
        "Bytes", (_bytes("up", parts, "bytes_up", 0), _bytes("down", parts, "bytes_down", 1)), as_size=True
    )
    return Figure("Metrics", others), Figure("Loss", loss), traffic


def _bytes(name: str, parts: Mapping[int, ParticipantDocument], field: str, ink: int) -> Curve:
    return Curve(name, {one: float(getattr(part, field)) for one, part in parts.items()}, ink)


def _paired(sources: Mapping[str, Mapping[int, Means]]) -> tuple[tuple[Curve, ...], tuple[Curve, ...]]:
    """Curves of all metrics but the loss, and of the loss; those of the second source are dashed."""
    names = dict.fromkeys(name for by_round in sources.values() for name in _names(by_round.values()))
    others = [name for name in names if name != LOSS]
    curves, loss = [], []
    for dashed, (source, by_round) in enumerate(sources.items()):
        for ink, name in enumerate(others):
            label = f"{name}, {source}"
            if points := _points(by_round, name):
                curves.append(Curve(label, points, ink % len(INKS), dashed=bool(dashed)))
        if points := _points(by_round, LOSS):
            loss.append(Curve(source, points, 0, dashed=bool(dashed)))
    return tuple(curves[:MAX_CURVES]), tuple(loss)


def _names(means: Iterable[Means]) -> dict[str, None]:
    return dict.fromkeys(name for one in means for name in whole(one))


def _points(by_round: Mapping[int, Means], name: str) -> Points:
    return {one: means[name] for one, means in by_round.items() if name in means}


def options(figure: Figure) -> Options:
    """What ECharts is to draw."""
    rounds = figure.rounds
    shared = {"animation": False, "backgroundColor": "transparent", "textStyle": {"fontFamily": "inherit"}}
    return shared | {
        "grid": {"left": 8, "right": 12, "top": 34, "bottom": 4, "containLabel": True},
        "legend": _legend(figure),
        "tooltip": _tooltip(),
        "xAxis": {
            "type": "category",
            "data": [str(one) for one in rounds],
            "axisLabel": _label() | {"hideOverlap": True},
            "axisLine": {"lineStyle": {"color": "var(--line)"}},
            "axisTick": {"show": False},
            "boundaryGap": figure.as_size,
        },
        "yAxis": {
            "type": "value",
            "scale": not figure.as_size,
            "splitNumber": 4,
            "axisLabel": _label() | ({":formatter": _SIZES_SCRIPT} if figure.as_size else {}),
            "splitLine": {"lineStyle": {"color": "var(--line)"}},
        },
        "series": [_series(curve, rounds, bars=figure.as_size) for curve in figure.curves],
    }


# As `size` does it, in the browser.
_SIZES_SCRIPT = (
    f"value => {{ const units = {[*UNITS]}; let unit = 0; "
    "while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; } "
    "return `${+value.toPrecision(3)} ${units[unit]}`; }"
)


def _series(curve: Curve, rounds: Sequence[int], *, bars: bool) -> Options:
    ink = INKS[curve.ink]
    drawn = {
        "name": curve.name,
        "data": [curve.points.get(one) for one in rounds],
        "itemStyle": {"color": ink},
        # It would compute a lighter colour, which it cannot of a variable.
        "emphasis": {"disabled": True},
    }
    if bars:
        return drawn | {"type": "bar", "stack": "bytes", "barMaxWidth": 18}
    line = {"color": ink, "width": 2, "type": "dashed" if curve.dashed else "solid"}
    few = len(rounds) == 1
    return drawn | {
        "type": "line",
        "lineStyle": line,
        "showSymbol": few,
        "symbol": "circle",
        "connectNulls": True,
    }


def _label() -> Options:
    return {"color": "var(--soft)", "fontSize": 11}


# ECharts draws the same key for a dashed line as for a solid one.
_SOLID, _DASHED = "path://M0 4H18V6H0Z", "path://M0 4H5V6H0ZM7 4H12V6H7ZM14 4H19V6H14Z"


def _legend(figure: Figure) -> Options:
    icons = {
        curve.name: "roundRect" if figure.as_size else (_DASHED if curve.dashed else _SOLID)
        for curve in figure.curves
    }
    return {
        "data": [{"name": name, "icon": icon} for name, icon in icons.items()],
        "top": 0,
        "left": 0,
        "type": "scroll",
        "itemWidth": 18,
        "itemHeight": 8,
        "itemGap": 14,
        "textStyle": {"color": "var(--ink)", "fontSize": 12},
        "inactiveColor": "var(--soft)",
        "pageTextStyle": {"color": "var(--soft)"},
        "pageIconColor": "var(--ink)",
    }


def _tooltip() -> Options:
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": "var(--panel)",
        "borderColor": "var(--line)",
        "textStyle": {"color": "var(--ink)", "fontSize": 12},
        "axisPointer": {"lineStyle": {"color": "var(--soft)"}},
    }
