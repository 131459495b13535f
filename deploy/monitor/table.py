"""The table of devices: of the terminal's cells, only those are drawn that say something new."""

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

from broker.monitor import DeviceDocument
from deploy.monitor.columns import COLUMNS, DUE, Row, fits, ordered


class DeviceTable(DataTable[Text]):
    """A row for each device that fits the filter, in the order asked for; the cursor stays on its device."""

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, id="devices")
        self.words = ""
        self.sorted_by = 0
        self.reverse = False
        self._shown: dict[str, Row] = {}
        self._order: list[str] = []

    def on_mount(self) -> None:
        """Set the columns up."""
        for column in COLUMNS:
            self.add_column(column.name, width=column.width, key=column.name)
        self._label()

    @property
    def selected(self) -> str | None:
        """The device under the cursor."""
        return self._order[self.cursor_row] if 0 <= self.cursor_row < len(self._order) else None

    def sort_by(self, column: int) -> None:
        """Sort by a column; by the one that it is sorted by, the other way round."""
        self.reverse = not self.reverse if column == self.sorted_by else False
        self.sorted_by = column
        self._label()

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
        if order != self._order:
            self._arrange(rows, order)
        for name, row in rows.items():
            self._update(name, row)
        self._shown = rows

    def _arrange(self, rows: Mapping[str, Row], order: list[str]) -> None:
        chosen = self.selected
        if set(order) == set(self._order):
            rank = {name: index for index, name in enumerate(order)}
            self.sort(COLUMNS[0].name, key=lambda cell: rank[cell.plain])
        else:
            self.clear()
            for name in order:
                self.add_row(*(column.cell(rows[name]) for column in COLUMNS), key=name)
            self._shown = dict(rows)
        self._order = order
        if chosen is not None and chosen in rows:
            self.move_cursor(row=order.index(chosen), animate=False)

    def _update(self, name: str, row: Row) -> None:
        before = self._shown[name]
        if before.device is not row.device or before.losses != row.losses:
            for column in COLUMNS:
                cell = column.cell(row)
                if cell != column.cell(before):
                    self.update_cell(name, column.name, cell)
        elif row.device.seconds_left is not None:
            column = COLUMNS[DUE]
            cell = column.cell(row)
            if cell != column.cell(before):
                self.update_cell(name, column.name, cell)

    def _label(self) -> None:
        for index, column in enumerate(self.ordered_columns):
            mark = ("▼" if self.reverse else "▲") if index == self.sorted_by else ""
            column.label = Text(f"{COLUMNS[index].name}{mark}")
        # Textual keeps the header until the columns or the cells change.
        self._update_count += 1
        self.refresh()
