"""A confusion matrix that can be read: shades of a row's share, and the worst mistakes in words."""

from dataclasses import dataclass

from broker.monitor import ConfusionDocument

# Beyond, cells are squares without numbers, and only those that a row has some of.
NUMBERED_CLASSES = 14
FAINTEST = 0.01
WORST = 5


@dataclass(frozen=True)
class Cell:
    """How often a true class was taken for a predicted one; `share` of its row."""

    row: int
    column: int
    count: int
    share: float


@dataclass(frozen=True)
class Mistakes:
    """A matrix by rows of true classes."""

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: float
    worst: tuple[str, ...]

    @property
    def numbered(self) -> bool:
        """Whether there is room for numbers."""
        return len(self.classes) <= NUMBERED_CLASSES

    @property
    def coloured(self) -> list[Cell]:
        """The cells that can be seen."""
        return [cell for row in self.rows for cell in row if cell.share >= FAINTEST]


def mistakes(document: ConfusionDocument) -> Mistakes:
    """Take a document apart; one whose rows do not fit its classes is cut."""
    size = len(document.classes)
    rows = tuple(_cells(index, row[:size]) for index, row in enumerate(document.counts[:size]))
    total = sum(cell.count for row in rows for cell in row)
    right = sum(row[index].count for index, row in enumerate(rows) if index < len(row))
    wrong = [cell for row in rows for cell in row if cell.row != cell.column and cell.count]
    wrong.sort(key=lambda cell: -cell.count)
    worst = (
        f"{document.classes[one.row]} taken for {document.classes[one.column]}: {one.count}"
        for one in wrong[:WORST]
    )
    return Mistakes(document.classes, rows, right / total if total else 0.0, tuple(worst))


def _cells(row: int, counts: tuple[int, ...]) -> tuple[Cell, ...]:
    total = sum(counts)
    return tuple(
        Cell(row, column, count, count / total if total else 0.0) for column, count in enumerate(counts)
    )
