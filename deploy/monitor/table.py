"""The table of devices: a line of the terminal is drawn again only when it says something else.

Textual's DataTable draws all its visible cells again when one changes, which takes 500 devices too long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from broker.monitor import DeviceDocument
from deploy.monitor.columns import COLUMNS, DUE, Cell, Row, cells, ordered
from deploy.viewing.devices import fits

GAP = 2
LEAST_LINES = 6
WIDTH = sum(column.width + GAP for column in COLUMNS)


class DeviceTable(ScrollView, can_focus=True):
    """A line for each device that fits the filter, in the order asked for; the cursor stays on its device."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"devices--header", "devices--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("enter", "choose", "Device", key_display="⏎"),
    ]

    @dataclass
    class Chosen(Message):
        """Somebody wants to see more of a device."""

        device: str

    def __init__(self) -> None:
        super().__init__(id="devices")
        self.words = ""
        self.sorted_by = 0
        self.reverse = False
        self.drawn = 0
        """Lines that were drawn anew so far."""
        self._rows: dict[str, Row] = {}
        self._cells: dict[str, tuple[Cell, ...]] = {}
        self._order: list[str] = []
        self._cursor = 0

    @property
    def order(self) -> tuple[str, ...]:
        """The devices from top to bottom."""
        return tuple(self._order)

    @property
    def selected(self) -> str | None:
        """The device under the cursor."""
        return self._order[self._cursor] if self._order else None

    def sort_by(self, column: int) -> None:
        """Sort by a column; by the one that it is sorted by, the other way round."""
        self.reverse = not self.reverse if column == self.sorted_by else False
        self.sorted_by = column
        self._refresh_line(-1)

    def show(
        self,
        devices: Mapping[str, DeviceDocument],
        ages_s: Mapping[str, float],
        losses: Mapping[str, Sequence[float]],
    ) -> None:
        """Bring the table up to date."""
        rows = {
            name: Row(device, ages_s[name], losses.get(name, ()))
            for name, device in devices.items()
            if fits(device, self.words)
        }
        order = ordered(list(rows.values()), COLUMNS[self.sorted_by], reverse=self.reverse)
        told = {name: self._told(name, row) for name, row in rows.items()}
        before, was, self._cells, self._rows = self._cells, self.selected, told, rows
        if order != self._order:
            self._arrange(order, was)
        else:
            for line, name in enumerate(order):
                if told[name] != before[name]:
                    self._refresh_line(line)

    def _told(self, name: str, row: Row) -> tuple[Cell, ...]:
        """The cells of a row; what did not change is not spelled out again."""
        before, known = self._rows.get(name), self._cells.get(name)
        if before is None or known is None:
            return cells(row)
        if before.device is not row.device or before.losses != row.losses:
            return cells(row)
        if row.device.seconds_left is None:
            return known
        due = COLUMNS[DUE].cell(row)
        return known if due == known[DUE] else (*known[:DUE], due, *known[DUE + 1 :])

    def _arrange(self, order: list[str], chosen: str | None) -> None:
        self._order = order
        if chosen in self._rows:
            self._cursor = order.index(chosen)
        self._cursor = max(0, min(self._cursor, len(order) - 1))
        if (size := Size(WIDTH, len(order) + 1)) != self.virtual_size:
            self.virtual_size = size
            # What a small fleet does not need, curves and events take.
            self.styles.max_height = max(LEAST_LINES, len(order) + 1)
        self._follow()
        self.refresh()

    # -- drawing ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """A line of the terminal: the header, or the device that is scrolled there."""
        across, down = self.scroll_offset
        line = y - 1 + down if y else -1
        if line >= len(self._order):
            return Strip.blank(self.size.width, self.rich_style)
        return self._strip(line).crop_extend(across, across + self.size.width, self.rich_style)

    def _strip(self, line: int) -> Strip:
        if line < 0:
            return self._drawn(self._header(), self.get_component_rich_style("devices--header"))
        row = self._cells[self._order[line]]
        if line == self._cursor:
            # Its colours would be those of the background there.
            plain = tuple(Cell(cell.text) for cell in row)
            return self._drawn(plain, self.get_component_rich_style("devices--cursor"))
        return self._drawn(row, self.rich_style)

    def _drawn(self, row: tuple[Cell, ...], style: Style) -> Strip:
        self.drawn += 1
        segments = []
        for column, cell in zip(COLUMNS, row, strict=True):
            text = cell.text.rjust(column.width) if column.right else cell.text
            whole = style + Style.parse(cell.style) if cell.style else style
            segments.append(Segment(set_cell_size(text, column.width) + " " * GAP, whole))
        return Strip(segments, WIDTH)

    def _header(self) -> tuple[Cell, ...]:
        mark = "▼" if self.reverse else "▲"
        return tuple(
            Cell(f"{column.name}{mark if index == self.sorted_by else ''}")
            for index, column in enumerate(COLUMNS)
        )

    def _refresh_line(self, line: int) -> None:
        """Have one line drawn again, if it is on the screen; -1 is the header."""
        y = line + 1 - self.scroll_offset.y if line >= 0 else 0
        if line < 0 or 0 < y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    # -- keys and mouse --------------------------------------------------------------------------

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        before = self._cursor
        self._cursor = max(0, min(self._cursor + lines, len(self._order) - 1))
        self._refresh_line(before)
        self._refresh_line(self._cursor)
        self._follow()

    def action_page(self, pages: int) -> None:
        """Move it by a screen."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        """Ask for the device under the cursor."""
        if (device := self.selected) is not None:
            self.post_message(self.Chosen(device))

    def on_click(self, event: events.Click) -> None:
        """Sort by the column of the header, or move the cursor there; a second click asks for the device."""
        if event.y == 0:
            if (column := _column_at(event.x + self.scroll_offset.x)) is not None:
                self.sort_by(column)
            return
        line = event.y - 1 + self.scroll_offset.y
        if line < len(self._order):
            self.action_move(line - self._cursor)
            if event.chain > 1:
                self.action_choose()

    def _follow(self) -> None:
        """Scroll so that the cursor is on the screen."""
        room = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False)


def _column_at(x: int) -> int | None:
    end = 0
    for index, column in enumerate(COLUMNS):
        end += column.width + GAP
        if x < end:
            return index
    return None
