"""Pictures of results, written as PNG files; no display is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.results.confusion import Matrix, accuracy
from host.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
TEXT_CLASSES = 20
MARKED_POINTS = 30
COLOURS = "Blues"


def plot_confusion(path: Path, matrix: Matrix, classes: Sequence[str], title: str) -> None:
    """Draw the matrix into a file; raises DataError."""
    size = confusion_size(len(classes))
    figure = new_figure(size, size)
    draw_confusion(figure, matrix, classes, title)
    save_figure(figure, path)


def confusion_size(classes: int) -> float:
    """Inches of a matrix's sides in which the names of its classes have room."""
    return min(16.0, 3.0 + 0.42 * classes)


def draw_confusion(figure: "Figure", matrix: Matrix, classes: Sequence[str], title: str) -> None:
    """Draw the matrix, coloured by the part of each true class."""
    axes = figure.add_subplot()
    parts = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(parts, cmap=COLOURS, vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=0 if max(map(len, classes)) <= 2 else 90)  # noqa: PLR2004  fit side by side
    axes.set_yticks(ticks, classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    overall = accuracy(matrix)
    axes.set_title(title if overall is None else f"{title}: {overall:.1%} of {matrix.sum()} right")
    if len(classes) <= TEXT_CLASSES:
        _write_counts(axes, matrix, parts)


def _write_counts(axes: "Axes", matrix: Matrix, parts: Any) -> None:  # noqa: ANN401  float64[n, n]
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            if count:
                colour = "white" if parts[row, column] > 0.5 else "black"  # noqa: PLR2004  half way to dark
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")


@dataclass(frozen=True)
class Panel:
    """Lines by round in one field: points (round, value) by name; `levels` are values to compare with."""

    ylabel: str
    lines: Mapping[str, Sequence[tuple[int, float]]]
    levels: Mapping[str, float] = field(default_factory=dict)


def plot_curves(path: Path, history: Sequence[Mapping[str, Any]], levels: Mapping[str, float]) -> None:
    """Draw accuracy and loss by round; `levels` are accuracies to compare with, by name.

    `history` is what a run's history.json holds. Raises DataError when the picture cannot be written.
    """

    def lines(metric: str) -> dict[str, list[tuple[int, float]]]:
        return {
            label: curve(history, metric, source)
            for source, label in (("metrics", "held-out examples"), ("federated", "devices' own validation"))
        }

    plot_panels(path, [Panel("accuracy", lines("accuracy"), levels), Panel("loss", lines("loss"))])


def curve(
    history: Sequence[Mapping[str, Any]], metric: str, source: str = "metrics"
) -> list[tuple[int, float]]:
    """Points (round, value) of a metric in a run's history, of the rounds that have it."""
    return [(entry["round"], entry[source][metric]) for entry in history if metric in entry[source]]


def plot_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Draw fields side by side; raises DataError when the picture cannot be written."""
    figure = new_figure(4.5 * len(panels), 4)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel)
    save_figure(figure, path)


def _draw(axes: "Axes", panel: Panel) -> None:
    for label, points in panel.lines.items():
        if points:
            marker = "o" if len(points) <= MARKED_POINTS else None
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=label)
    for name, level in panel.levels.items():
        axes.axhline(level, linestyle=":", color="grey")
        axes.annotate(
            name,
            (1, level),
            (-4, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize="small",
        )
    axes.set_xlabel("round")
    axes.set_ylabel(panel.ylabel)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    if panel.ylabel == "loss":
        axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(fontsize="small")


def new_figure(width: float, height: float) -> "Figure":
    """Begin a picture of so many inches; raises ConfigError when matplotlib is not there."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra, and slow to import
    except ModuleNotFoundError:
        raise ConfigError("drawing takes matplotlib: pip install 'midge[demo]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a picture; raises DataError."""
    try:
        figure.savefig(path, dpi=DPI)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the picture cannot be written: {error}") from None
