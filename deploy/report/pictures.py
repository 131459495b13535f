"""What the report shows as pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.report.canvas import ACCENT, BAD, INK, LINE, MID, MUTED, PALE, Picture, label
from deploy.report.facts import Facts, Fit, RoundFacts
from deploy.report.gather import thinned
from deploy.report.measures import lower_is_better
from deploy.viewing.words import size, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400
MAX_BARS = 100
MAX_NAMED = 24
PHASES = {
    "training": ACCENT,
    "aggregating": INK,
    "evaluating": MID,
    "paused": BAD,
}


def curves(facts: Facts) -> list[Picture]:
    """A picture a metric: held-out data, and how the devices' values spread."""
    return [_curve(facts, name, place) for place, name in enumerate(facts.names, 1)]


def _curve(facts: Facts, name: str, place: int) -> Picture:
    shown = _thinned(facts.closed)
    held = [(one.round, one.metrics[name]) for one in shown if name in one.metrics]
    mean = [(one.round, one.federated[name]) for one in shown if name in one.federated]
    spreads = [(one.round, one.federated[name]) for one in facts.spreads if name in one.federated]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        if spreads:
            numbers = [number for number, _ in spreads]
            lower, upper = [one.lower for _, one in spreads], [one.upper for _, one in spreads]
            axes.fill_between(
                numbers, lower, upper, color=PALE, alpha=0.6, lw=0, label="middle half of devices"
            )
            worst = [one.most if lower_is_better(name) else one.least for _, one in spreads]
            axes.plot(numbers, worst, color=BAD, lw=1, ls=":", label="worst device")
        if mean:
            axes.plot(*zip(*mean, strict=True), color=MUTED, ls="--", lw=1.4, label="devices, mean")
        if held:
            axes.plot(*zip(*held, strict=True), color=ACCENT, marker=_dot(held), ms=3, label="held-out data")
        if lower_is_better(name):
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        _by_round(axes, label(name))
        axes.legend(loc="best")

    newest = (held or mean)[-1]
    source = "on held-out data" if held else "on the devices' own validation data"
    alt = f"{name} by round; newest, in round {newest[0]}: {newest[1]:.4g} {source}."
    return Picture(f"metric-{place}-{_file_name(name)}", f"{name} by round", alt, draw)


def versus(facts: Facts) -> Picture | None:
    """Each device's own model against the federated one; None where no device has both."""
    name = facts.names[0] if facts.names else ""
    pairs = [fit for fit in facts.fits if name in fit.own and name in fit.federated]
    if not pairs:
        return None
    gains = [_gain(fit, name) for fit in pairs]
    alt = (
        f"{name} of each device's own model and of the federated model on the same data: the federated one "
        f"is better on {sum(gain > 0 for gain in gains)} and worse on {sum(gain < 0 for gain in gains)} of "
        f"{len(pairs)} devices."
    )
    title = f"{name}: own model against federated model"
    if len(pairs) > MAX_NAMED:
        return Picture("devices", title, alt, lambda figure: _scatter(figure, pairs, name), 5.4, 4.2)
    ranked = sorted(pairs, key=lambda fit: _gain(fit, name))
    height = 1.3 + 0.28 * len(ranked)
    return Picture("devices", title, alt, lambda figure: _dumbbells(figure, ranked, name), 5.4, height)


def _dumbbells(figure: "Figure", fits: Sequence[Fit], name: str) -> None:
    axes = figure.add_subplot()
    places = range(len(fits))
    own, federated = [fit.own[name] for fit in fits], [fit.federated[name] for fit in fits]
    axes.hlines(places, own, federated, color=LINE, lw=3, zorder=1)
    axes.scatter(own, places, s=42, facecolor="none", edgecolor=MUTED, lw=1.5, label="own model", zorder=2)
    axes.scatter(federated, places, s=42, color=ACCENT, label="federated model", zorder=3)
    axes.set_yticks(places, [fit.device for fit in fits])
    axes.set_ylim(-0.7, len(fits) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label(name))
    figure.legend(loc="outside upper center", ncols=2)


def _scatter(figure: "Figure", fits: Sequence[Fit], name: str) -> None:
    axes = figure.add_subplot()
    own, federated = [fit.own[name] for fit in fits], [fit.federated[name] for fit in fits]
    axes.scatter(own, federated, s=16, color=ACCENT, alpha=0.55, lw=0)
    axes.axline((own[0], own[0]), slope=1, color=MUTED, lw=1, ls="--")
    axes.set_xlabel(f"{label(name)}, own model")
    axes.set_ylabel(f"{label(name)}, federated model")


def participation(facts: Facts) -> Picture | None:
    """Who was asked, and whose update counted."""
    shown = _thinned(facts.closed)
    if not shown:
        return None
    abandoned = [one for one in shown if one.outcome == "abandoned"]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        numbers = [one.round for one in shown]
        axes.fill_between(numbers, [one.asked for one in shown], color=PALE, alpha=0.6, lw=0, label="asked")
        accepted = [one.accepted for one in shown]
        axes.plot(numbers, accepted, color=ACCENT, label="updates accepted")
        axes.plot(numbers, [one.quorum for one in shown], color=MUTED, lw=1, ls=":", label="quorum")
        if abandoned:
            crosses = [one.round for one in abandoned], [one.accepted for one in abandoned]
            axes.plot(*crosses, color=BAD, ls="", marker="x", label="abandoned")
        axes.set_ylim(bottom=0, top=1.1 * max(max(one.asked, one.quorum) for one in shown) + 0.1)
        _by_round(axes, "devices")
        axes.locator_params(axis="y", integer=True)
        figure.legend(loc="outside upper center", ncols=4)

    counted = sum(one.accepted for one in shown) / len(shown)
    asked = sum(one.asked for one in shown) / len(shown)
    alt = f"On average {asked:.1f} devices were asked a round, and {counted:.1f} updates accepted."
    return Picture("participation", "Devices asked, updates accepted", alt, draw)


def phases(facts: Facts) -> Picture | None:
    """Where the time of each round went."""
    numbers = thinned(sorted(facts.phases_by_round), MAX_BARS)
    if not numbers:
        return None

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        below = [0.0] * len(numbers)
        width = _bar_width(numbers)
        for phase, colour in PHASES.items():
            seconds = [facts.phases_by_round[number].get(phase, 0.0) for number in numbers]
            if any(seconds):
                axes.bar(numbers, seconds, width, bottom=below, color=colour, label=phase, lw=0)
            below = [low + more for low, more in zip(below, seconds, strict=True)]
        _by_round(axes, "seconds")
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper center", ncols=4)

    told = ", ".join(f"{phase} {facts.phases.get(phase, 0.0):.1f} s" for phase in PHASES)
    return Picture("phases", "Time by phase", f"Seconds of each round by phase; in all: {told}.", draw)


def traffic(facts: Facts) -> Picture | None:
    """Bytes of each round."""
    shown = _thinned(facts.closed, MAX_BARS)
    if not any(one.bytes_up or one.bytes_down for one in shown):
        return None

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        numbers = [one.round for one in shown]
        width = _bar_width(numbers)
        largest = max(max(one.bytes_up, one.bytes_down) for one in shown)
        unit, scale = unit_of(largest)
        sides = (
            ("up: updates", "bytes_up", ACCENT, -1),
            ("down: models and programs", "bytes_down", PALE, 1),
        )
        for what, field, colour, side in sides:
            values = [getattr(one, field) / scale for one in shown]
            if any(values):
                places = [number + side * width / 4 for number in numbers]
                axes.bar(places, values, width / 2, color=colour, label=what, lw=0)
        _by_round(axes, unit)
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper center", ncols=2)

    up, down = sum(one.bytes_up for one in facts.closed), sum(one.bytes_down for one in facts.closed)
    alt = f"Bytes of each round; in all {size(up)} up and {size(down)} down."
    return Picture("traffic", "Bytes by round", alt, draw)


def _bar_width(numbers: Sequence[int]) -> float:
    return 0.8 * (numbers[-1] - numbers[0] + 1) / len(numbers)


def _by_round(axes: "Axes", measured: str) -> None:
    axes.set_xlabel("round")
    axes.set_ylabel(measured)
    axes.locator_params(axis="x", integer=True)


def _dot(points: Sequence[tuple[int, float]]) -> str | None:
    return "o" if len(points) <= MAX_NAMED else None


def _gain(fit: Fit, name: str) -> float:
    """By how much the federated model is better."""
    gain = fit.federated[name] - fit.own[name]
    return -gain if lower_is_better(name) else gain


def _thinned(rounds: Sequence[RoundFacts], most: int = MAX_POINTS) -> list[RoundFacts]:
    return [rounds[place] for place in thinned(range(len(rounds)), most)]


def _file_name(name: str) -> str:
    """A metric's name with nothing in it that a path could take for something else."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name)
