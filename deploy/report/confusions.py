"""The confusion matrix: a table where one can read it, else a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.report.canvas import Picture, label
from deploy.report.runfiles import Confusion
from deploy.results.confusion import accuracy
from deploy.results.plots import confusion_size, draw_confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TABLE_CLASSES = 20
MAX_MISTAKES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A true class: its counts by predicted class, their parts of the class, and what was right."""

    name: str
    counts: Sequence[int]
    parts: Sequence[float]
    right: float | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A class that was taken for another one, so many times."""

    true: str
    predicted: str
    times: int
    part: float


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page says of a matrix; `rows` are empty when there are too many classes for a table."""

    round: int
    classes: Sequence[str]
    rows: Sequence[Row]
    mistakes: Sequence[Mistake]
    right: float | None
    examples: int


def shown(found: Confusion | None) -> Shown | None:
    """Sum a matrix up."""
    if found is None:
        return None
    matrix = found.matrix
    parts = (matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)).tolist()
    rows = [
        Row(name, counts, parts[index], accuracy(matrix, [index]))
        for index, (name, counts) in enumerate(zip(found.classes, matrix.tolist(), strict=True))
    ]
    readable = rows if len(rows) <= MAX_TABLE_CLASSES else []
    return Shown(found.round, found.classes, readable, _mistakes(rows), accuracy(matrix), int(matrix.sum()))


def picture(found: Confusion | None, *, always: bool = False) -> Picture | None:
    """Draw a matrix that is too large for a table, or any."""
    if found is None or (len(found.classes) <= MAX_TABLE_CLASSES and not always):
        return None
    side, title = confusion_size(len(found.classes)), f"round {found.round}"
    right = accuracy(found.matrix)
    alt = f"Confusion matrix of {len(found.classes)} classes after round {found.round}"
    alt += "." if right is None else f": {right:.1%} of {found.matrix.sum()} right."

    def draw(figure: "Figure") -> None:
        draw_confusion(figure, found.matrix, [label(name) for name in found.classes], title)
        figure.axes[0].grid(visible=False)

    return Picture("confusion", title, alt, draw, side, side)


def _mistakes(rows: Sequence[Row]) -> list[Mistake]:
    """The most frequent ones."""
    found = [
        Mistake(row.name, rows[column].name, times, row.parts[column])
        for index, row in enumerate(rows)
        for column, times in enumerate(row.counts)
        if times and column != index
    ]
    return sorted(found, key=lambda one: -one.times)[:MAX_MISTAKES]
