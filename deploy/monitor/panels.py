"""What stands above and below the table: what is said first, the curves, the events."""

from rich.text import Text
from textual.widget import Widget
from textual.widgets import RichLog

from broker.happenings import EventDocument, Severity
from deploy.viewing.curves import Point, drawn
from deploy.viewing.events import line
from deploy.viewing.standing import Standing
from deploy.viewing.summary import Line, Summary
from deploy.viewing.view import KEPT_EVENTS
from deploy.viewing.words import bar, percent

BAR_WIDTH = 12
LABEL_WIDTH = 8
STYLES = {Severity.INFO: "", Severity.WARNING: "bold", Severity.ERROR: "bold red"}


class Headline(Widget):
    """The fleet, the run and the round in a line each, and above them what is wrong, if anything is."""

    def __init__(self) -> None:
        super().__init__(id="headline")
        self._lines: list[Text] = []

    def show(self, told: Summary, found: Standing) -> None:
        """Draw it if it is new."""
        lines = [Text(told.fleet.text, "bold"), _line(told.run), _line(told.round)]
        if found.text:
            lines.insert(0, Text(f" {found.text} ", f"reverse {STYLES[found.severity]}"))
        if lines != self._lines:
            # Where everything else stands, depends on how many they are.
            self.styles.height = len(lines)
            self._lines = lines
            self.refresh()

    def render(self) -> Text:
        """As it was said last."""
        return Text("\n", no_wrap=True, overflow="ellipsis").join(self._lines)


def _line(told: Line) -> Text:
    if told.done is None:
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
            return Text(f"{self._name}: no round is closed yet", "dim")
        values = [value for _, value in self._points]
        lines = drawn(self._points, max(width, 1), max(height, 1))
        labels = [""] * len(lines)
        labels[-1], labels[0] = f"{min(values):.4g}", f"{max(values):.4g}"
        newest = self._points[-1]
        text = Text(no_wrap=True, overflow="crop")
        text.append(f"{self._name} {newest[1]:.4g} in round {newest[0]:.0f}\n", "bold")
        for label, row in zip(labels, lines, strict=True):
            text.append(f"{label:>{LABEL_WIDTH}} ", "dim")
            text.append(f"{row}\n", "cyan")
        text.right_crop(1)
        return text


class Log(RichLog):
    """The events, newest at the end."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(max_lines=KEPT_EVENTS, wrap=False, id="log")

    def add(self, events: list[EventDocument]) -> None:
        """Write what happened."""
        for event in events:
            self.write(Text(line(event, brief=True), STYLES[event.severity]), scroll_end=True)
