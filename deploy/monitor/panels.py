"""What stands above and below the table: what is said first, the curves, the events."""

from collections import deque
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import RichLog, Static

from broker.happenings import EventDocument, Severity
from deploy.viewing.curves import Point, drawn
from deploy.viewing.events import brief
from deploy.viewing.standing import Believed, Standing
from deploy.viewing.summary import Line, Summary
from deploy.viewing.view import KEPT_EVENTS
from deploy.viewing.words import bar, percent

BAR_WIDTH = 12
# In a smaller terminal, the words need its room.
WITH_BAR = 100
LABEL_WIDTH = 8
STYLES = {Severity.INFO: "", Severity.WARNING: "bold", Severity.ERROR: "bold red"}


class Alert(Static):
    """What is wrong, on as many lines as it takes; not there while nothing is."""

    def __init__(self) -> None:
        super().__init__(id="alert")
        self.display = False
        self._found = Standing(Believed.CURRENT, "")

    def show(self, found: Standing) -> None:
        """Draw it if it is new."""
        if found != self._found:
            self._found = found
            self.display = bool(found.text)
            self.update(Text(found.text, f"reverse {STYLES[found.severity]}"))


class Headline(Widget):
    """The fleet, the run and the round in a line each, cut off where the terminal ends."""

    def __init__(self) -> None:
        super().__init__(id="headline")
        self._told = Summary(Line(""), Line(""), Line(""))

    def show(self, told: Summary) -> None:
        """Draw it if it is new."""
        if told != self._told:
            self._told = told
            self.refresh()

    def render(self) -> Text:
        """As it was said last."""
        return Text("\n").join(_line(told, self.size.width) for told in self._told)


def _line(told: Line, width: int) -> Text:
    if told.done is None:
        return Text(told.text, "bold")
    if width < WITH_BAR:
        return Text(told.text)
    # Words say it, too: a bar is nothing to a screen reader.
    return Text.assemble(
        (bar(told.done, BAR_WIDTH), "cyan on grey37"), f" {percent(told.done):>5}  {told.text}"
    )


class Curve(Widget):
    """One metric by round."""

    def __init__(self, fallback: str) -> None:
        super().__init__(classes="curve")
        self._name, self._points = fallback, [(0.0, 0.0)][:0]

    def show(self, name: str, points: list[Point]) -> None:
        """Draw it if it is new."""
        if (name, points) != (self._name, self._points):
            self._name, self._points = name, points
            self.refresh()

    def render(self) -> Text:
        """The curve between its least and its largest value."""
        width, height = self.size.width - LABEL_WIDTH - 1, self.size.height - 1
        if not self._points:
            return Text(f"{self._name}: no round yet", "dim")
        values = [value for _, value in self._points]
        lines = drawn(self._points, max(width, 1), max(height, 1))
        labels = [""] * len(lines)
        labels[-1], labels[0] = f"{min(values):.4g}", f"{max(values):.4g}"
        newest = self._points[-1]
        text = Text(no_wrap=True, overflow="crop")
        title, where = f"{self._name} {newest[1]:.4g}", f" in round {newest[0]:.0f}"
        text.append(f"{title}{where if len(title + where) <= self.size.width else ''}\n", "bold")
        for label, row in zip(labels, lines, strict=True):
            text.append(f"{label:>{LABEL_WIDTH}} ", "dim")
            text.append(f"{row}\n", "cyan")
        text.right_crop(1)
        return text


class Log(RichLog):
    """The events, newest at the end."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(min_width=1, id="log")
        self._events: deque[EventDocument] = deque(maxlen=KEPT_EVENTS)
        self._width = 0

    def add(self, events: list[EventDocument]) -> None:
        """Write what happened."""
        self._events.extend(events)
        self._write(events)

    def on_resize(self, event: Resize) -> None:
        """Long lines go on below, at another place now."""
        if event.size.width != self._width:
            self._width = event.size.width
            self.clear()
            self._write(self._events)

    def _write(self, events: Iterable[EventDocument]) -> None:
        for event in events:
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(*(Text(part, STYLES[event.severity]) for part in brief(event)))
            self.write(row, shrink=True, scroll_end=True)
