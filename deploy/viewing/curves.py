"""Metrics by round, and how they are drawn with braille characters: two by four points a character; pure."""

from collections.abc import Sequence
from math import isfinite

from broker.monitor import HistoryDocument, RoundDocument, RoundSummary
from deploy.viewing.view import View
from deploy.viewing.words import heights, whole

Point = tuple[float, float]
ACROSS, DOWN = 2, 4
BLANK = 0x2800
# The bit of each point, by column and by row: https://www.unicode.org/charts/PDF/U2800.pdf
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def curves(view: View) -> dict[str, list[Point]]:
    """Metrics of the run's closed rounds: on held-out data, or else on the devices' own."""
    run = view.run
    if run is None:
        return {}
    rounds = summaries(view.history(run.run), view.closed(run.run))
    held_out = any(closed.metrics for closed in rounds)
    found: dict[str, list[Point]] = {}
    for closed in rounds:
        for name, value in whole(closed.metrics if held_out else closed.federated).items():
            found.setdefault(name, []).append((float(closed.round), value))
    return found


def summaries(history: HistoryDocument | None, closed: Sequence[RoundDocument]) -> list[RoundSummary]:
    """A line for each closed round: those of the history, and what is newer than that."""
    known = {one.round: one for one in history.rounds} if history is not None else {}
    newer = {one.round: _summary(one) for one in closed if one.round not in known}
    return [line for _, line in sorted({**known, **newer}.items())]


def _summary(document: RoundDocument) -> RoundSummary:
    return RoundSummary(
        round=document.round,
        outcome=document.outcome or "",
        reported=document.reported,
        participants=len(document.participants),
        seconds=document.seconds,
        metrics=document.metrics,
        federated=document.federated,
        bytes_up=document.bytes_up,
        bytes_down=document.bytes_down,
    )


def drawn(points: Sequence[Point], width: int, height: int) -> list[str]:
    """Lines of `width` characters with the points joined, between the least and largest of each axis."""
    finite = [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
    cells = [[BLANK] * width for _ in range(height)]
    if width < 1 or height < 1 or not finite:
        return ["".join(map(chr, row)) for row in cells]
    across = _scaled([x for x, _ in finite], width * ACROSS - 1)
    down = [height * DOWN - 1 - y for y in _scaled([y for _, y in finite], height * DOWN - 1)]
    dots = list(zip(across, down, strict=True))
    for (x0, y0), (x1, y1) in zip(dots, dots[1:] or dots, strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            x, y = x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps)
            cells[y // DOWN][x // ACROSS] |= DOTS[x % ACROSS][y % DOWN]
    return ["".join(map(chr, row)) for row in cells]


def _scaled(values: Sequence[float], top: int) -> list[int]:
    """Values as whole numbers from 0 to `top`; in the middle, where all are the same."""
    return [round(height * top) for height in heights(values, level=(top // 2) / top)]
