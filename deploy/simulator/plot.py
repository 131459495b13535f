"""A simulation as one picture: who did what when, how long rounds took, how many updates they got."""

from collections.abc import Container, Sequence
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from deploy.simulator.outcome import Round, percentile_95
from deploy.simulator.timeline import Doing, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (11.0, 8.5)
COLOURS = {
    Doing.DOWNLOADS: "#56b4e9",
    Doing.TRAINS: "#009e73",
    Doing.WAITS: "#f0e442",
    Doing.UPLOADS: "#e69f00",
    Doing.EVALUATES: "#cc79a7",
    Doing.IDLE: "#eeeeee",
    Doing.AWAY: "#707070",
}
MODEL, NO_MODEL, BOUND = "#0072b2", "#d55e00", "#333333"
SHOWN_ROUNDS = 6
MOST_ROWS = 40
"""Of a chart with a row for each device; of more devices, parts of the fleet are drawn."""
SLICES = 600


def draw(figure: "Figure", timeline: Timeline, devices: Sequence[str], rounds: Sequence[Round]) -> None:
    """Fill the figure; `rounds` are those that closed, at least one, in order."""
    grid = figure.add_gridspec(2, 2, height_ratios=(1.6, 1.0))
    shown = around_the_slowest(rounds)
    activity = figure.add_subplot(grid[0, :])
    begin, end = shown[0].opened_s, shown[-1].closed_s
    if len(devices) <= MOST_ROWS:
        _draw_rows(activity, timeline, devices, begin, end)
    else:
        _draw_parts(activity, timeline, devices, begin, end)
    _mark_rounds(activity, shown, len(rounds))
    _draw_times(figure.add_subplot(grid[1, 0]), rounds)
    _draw_updates(figure.add_subplot(grid[1, 1]), rounds)


def around_the_slowest(rounds: Sequence[Round]) -> Sequence[Round]:
    """Choose rounds that follow each other, few enough to be told apart, with the slowest in the middle."""
    slowest = max(range(len(rounds)), key=lambda place: rounds[place].seconds)
    first = max(0, min(slowest - SHOWN_ROUNDS // 2, len(rounds) - SHOWN_ROUNDS))
    return rounds[first : first + SHOWN_ROUNDS]


def parts_of_the_fleet(
    timeline: Timeline, devices: Sequence[str], begin: float, end: float
) -> dict[Doing, list[float]]:
    """How many devices, on average, did what in each of `SLICES` slices of a time."""
    width = (end - begin) / SLICES
    level = {what: [0.0] * (SLICES + 2) for what in Doing}
    for device in devices:
        for what, starts, stops in timeline.spans(device, begin, end):
            _ramp(level[what], (starts - begin) / width, 1.0)
            _ramp(level[what], (stops - begin) / width, -1.0)
    return {what: [*accumulate(steps)][:SLICES] for what, steps in level.items()}


def _ramp(steps: list[float], at: float, height: float) -> None:
    """Have the sum of the steps rise at this place, by a part of it in the slice that this is in."""
    place = min(int(at), SLICES)
    inside = at - place
    steps[place] += height * (1 - inside)
    steps[place + 1] += height * inside


def _draw_rows(axes: "Axes", timeline: Timeline, devices: Sequence[str], begin: float, end: float) -> None:
    seen = set[Doing]()
    for row, device in enumerate(devices):
        spans = [*timeline.spans(device, begin, end)]
        bars = [(starts / 60, (stops - starts) / 60) for _, starts, stops in spans]
        seen.update(what for what, _, _ in spans)
        axes.broken_barh(bars, (row - 0.42, 0.84), facecolors=[COLOURS[what] for what, _, _ in spans])
    axes.set_yticks(range(len(devices)), devices, fontsize=min(9, 240 / len(devices)))
    axes.set_ylim(len(devices) - 0.5, -0.5)
    axes.set_xlim(begin / 60, end / 60)
    _explain(axes, seen)


def _draw_parts(axes: "Axes", timeline: Timeline, devices: Sequence[str], begin: float, end: float) -> None:
    parts = parts_of_the_fleet(timeline, devices, begin, end)
    minutes = [(begin + (end - begin) * (place + 0.5) / SLICES) / 60 for place in range(SLICES)]
    axes.stackplot(minutes, [*parts.values()], colors=COLOURS.values(), linewidth=0)
    axes.set_ylabel("devices")
    axes.set_ylim(0, len(devices))
    axes.set_xlim(begin / 60, end / 60)
    _explain(axes, {what for what, counts in parts.items() if max(counts) > 0})


def _explain(axes: "Axes", seen: Container[Doing]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - slow to import

    patches = [
        Patch(facecolor=colour, edgecolor="#999999", label=what)
        for what, colour in COLOURS.items()
        if what in seen
    ]
    axes.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        ncols=len(patches),
        fontsize="small",
        frameon=False,
        columnspacing=1.2,
        handlelength=1.2,
    )
    axes.set_xlabel("minutes since the simulation began", loc="right", fontsize="small")


def _mark_rounds(axes: "Axes", shown: Sequence[Round], of: int) -> None:
    top = axes.get_xaxis_transform()
    for one in shown:
        axes.axvline(one.opened_s / 60, color=BOUND, linewidth=0.8)
        axes.axvline(one.closed_s / 60, color=BOUND, linewidth=0.8, linestyle=":")
        colour = MODEL if one.made_a_model else NO_MODEL
        middle = (one.opened_s + one.closed_s) / 120
        axes.text(
            middle, 1.01, f"round {one.number}", transform=top, ha="center", color=colour, fontsize="small"
        )
    which = (
        ""
        if len(shown) == of
        else f": rounds {shown[0].number} to {shown[-1].number} of {of}, with the slowest"
    )
    axes.set_title(f"What devices do{which}", loc="left", pad=18)


def _draw_times(axes: "Axes", rounds: Sequence[Round]) -> None:
    seconds = [one.seconds for one in rounds]
    _bars(axes, rounds, seconds)
    for name, value, style in (
        ("median", median(seconds), "-"),
        ("95 % within", percentile_95(seconds), "--"),
    ):
        axes.axhline(value, color=BOUND, linestyle=style, linewidth=1.2, label=f"{name} {value:,.0f} s")
    axes.set_ylabel("seconds a round, to its evaluation")
    axes.set_ylim(0, 1.25 * max(seconds))
    axes.legend(fontsize="small", loc="upper right", ncols=2)


def _draw_updates(axes: "Axes", rounds: Sequence[Round]) -> None:
    _bars(axes, rounds, [one.updates for one in rounds])
    numbers = [one.number for one in rounds]
    targets, quorums = [one.target for one in rounds], [one.quorum for one in rounds]
    axes.step(numbers, targets, where="mid", color=BOUND, linewidth=1.2, label="target")
    axes.step(numbers, quorums, where="mid", color=BOUND, linewidth=1.2, linestyle="--", label="quorum")
    failed = sum(not one.made_a_model for one in rounds)
    if failed:
        axes.bar([], [], color=NO_MODEL, label=f"no model: {failed} of {len(rounds)} rounds")
    axes.set_ylabel("updates that count")
    axes.set_ylim(0, 1.25 * max(*targets, *(one.updates for one in rounds)))
    axes.legend(fontsize="small", loc="upper right", ncols=3)


def _bars(axes: "Axes", rounds: Sequence[Round], heights: Sequence[float]) -> None:
    colours = [MODEL if one.made_a_model else NO_MODEL for one in rounds]
    axes.bar([one.number for one in rounds], heights, width=0.85, color=colours, alpha=0.75)
    axes.set_xlabel("round")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlim(rounds[0].number - 0.6, rounds[-1].number + 0.6)
