"""Pictures of results, written as PNG files; no display is needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.results.confusion import Matrix, accuracy
from host.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
TEXT_CLASSES = 20
COLOURS = "Blues"


def plot_confusion(path: Path, matrix: Matrix, classes: Sequence[str], title: str) -> None:
    """Draw the matrix, coloured by the part of each true class; raises DataError."""
    size = min(16.0, 3.0 + 0.42 * len(classes))
    figure = _figure(size, size)
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
    _save(figure, path)


def _write_counts(axes: "Axes", matrix: Matrix, parts: Any) -> None:  # noqa: ANN401  float64[n, n]
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            if count:
                colour = "white" if parts[row, column] > 0.5 else "black"  # noqa: PLR2004  half way to dark
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")


def plot_curves(path: Path, history: Sequence[Mapping[str, Any]], levels: Mapping[str, float]) -> None:
    """Draw accuracy and loss by round; `levels` are accuracies to compare with, by name.

    `history` is what a run's history.json holds. Raises DataError when the picture cannot be written.
    """
    figure = _figure(9, 4)
    left, right = figure.subplots(1, 2)
    for axes, metric in ((left, "accuracy"), (right, "loss")):
        for source, label in (("metrics", "held-out examples"), ("federated", "devices' own validation")):
            points = [(entry["round"], entry[source][metric]) for entry in history if metric in entry[source]]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axes.set_xlabel("round")
        axes.set_ylabel(metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    for name, level in levels.items():
        left.axhline(level, linestyle=":", color="grey")
        left.annotate(
            name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize="small"
        )
    right.set_ylim(bottom=0)
    if right.lines:
        right.legend()
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra, and slow to import
    except ModuleNotFoundError:
        raise ConfigError("drawing takes matplotlib: pip install 'midge[demo]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    try:
        figure.savefig(path, dpi=DPI)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the picture cannot be written: {error}") from None
