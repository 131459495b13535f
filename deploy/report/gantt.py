"""How a round's participants spent it, as a Gantt picture."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.report.canvas import ACCENT, BAD, INK, LINE, MID, PALE, Picture
from deploy.report.facts import Course, Timeline
from deploy.viewing.steps import Stretch, stretches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = {
    "fetching": PALE,
    "training": ACCENT,
    "uploading": MID,
    "evaluating": INK,
    "waiting": LINE,
    "lost": BAD,
    "displaced": BAD,
}
REPORTED = "reported"
# With its update accepted, or nothing to do, a device waits for the others.
WAITING = (REPORTED, "idle")


def bars(course: Course, ends_s: float) -> Iterator[Stretch]:
    """Stretches of a course, up to the round's end."""
    for one in stretches(course.steps, ends_s):
        yield one._replace(state="waiting") if one.state in WAITING else one


def gantt(timeline: Timeline) -> Picture:
    """A row a participant; a mark where its update was accepted."""
    title = f"Round {timeline.round}, {timeline.why}"
    reported = [at_s for one in timeline.courses for state, at_s in one.steps if state == REPORTED]
    last = f"; the last counted update came after {max(reported):.1f} s" if reported else ""
    alt = f"How each participant spent round {timeline.round} of {timeline.seconds:.1f} s{last}."
    height = 1.2 + 0.24 * len(timeline.courses)
    return Picture(
        f"round-{timeline.round:04}", title, alt, lambda figure: _draw(figure, timeline), 9.0, height
    )


def _draw(figure: "Figure", timeline: Timeline) -> None:
    axes = figure.add_subplot()
    labelled: set[str] = set()
    for place, course in enumerate(reversed(timeline.courses)):
        for bar in bars(course, timeline.seconds):
            first = None if bar.state in labelled else bar.state
            labelled.add(bar.state)
            colour = STATES.get(bar.state, LINE)
            axes.barh(place, bar.seconds, 0.62, bar.begin_s, color=colour, lw=0, label=first)
    _mark_reported(figure, timeline)
    axes.set_yticks(range(len(timeline.courses)), [one.device for one in reversed(timeline.courses)])
    axes.set_ylim(-0.6, len(timeline.courses) - 0.4)
    axes.set_xlim(0, max(timeline.seconds, 1e-3))
    axes.set_xlabel("seconds since the round opened")
    axes.grid(axis="y", visible=False)
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    labels = sorted(named, key=lambda state: [*STATES, state].index(state))
    figure.legend([named[state] for state in labels], labels, loc="outside upper center", ncols=8)


def _mark_reported(figure: "Figure", timeline: Timeline) -> None:
    marks = [
        (at_s, place)
        for place, course in enumerate(reversed(timeline.courses))
        for state, at_s in course.steps
        if state == REPORTED
    ]
    if marks:
        axes = figure.axes[0]
        axes.plot(*zip(*marks, strict=True), color=INK, ls="", marker="D", ms=4, label="update accepted")
