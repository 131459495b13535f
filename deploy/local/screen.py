"""What a local fleet shows while it runs: a live picture on a terminal, a line a round elsewhere."""

import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from broker.monitor import DeviceDocument, RoundDocument
from deploy.viewing.devices import STYLES
from deploy.viewing.view import View
from deploy.viewing.words import whole

BAR_WIDTH = 24
REFRESH_HZ = 8


class Screen:
    """Says things line by line; `follow` shows a view between two lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._told: set[tuple[str, int]] = set()

    def say(self, text: str) -> None:
        """Write a line, above the live picture if there is one."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """Write a table or the like."""
        self._console.print(what)

    def wait(self, text: str) -> None:
        """Show that something is going on, where that can be shown."""
        self._draw(Text(f"… {text}", style="dim"))

    def follow(self, view: View, devices: Mapping[str, str], began: float) -> None:
        """Show the state of the run, and write a line for each round that is over.

        `devices` says what there is to know of each device's data.
        """
        for closed in _closed(view):
            if (closed.run, closed.round) not in self._told:
                self.say(_round_line(closed, view, len(devices)))
                self._told.add((closed.run, closed.round))
        self._draw(Group(_headline(view, began), _devices(view, devices)))

    def clear(self) -> None:
        """Take the live picture away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, what: RenderableType) -> None:
        if not self._console.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=REFRESH_HZ, transient=True)
            self._live.start()
        self._live.update(what)


def _closed(view: View) -> list[RoundDocument]:
    return view.closed(view.run.run) if view.run is not None else []


def _round_line(closed: RoundDocument, view: View, devices: int) -> str:
    of = f"/{view.run.rounds}" if view.run is not None else ""
    metrics = f"  {_spelled(closed.metrics)}" if closed.metrics else ""
    trouble = "" if closed.outcome == "completed" else f"  {closed.outcome}: {closed.reason}"
    return f"round {closed.round:>2}{of}  {closed.reported}/{devices} updates{metrics}{trouble}"


def _headline(view: View, began: float) -> Text:
    seconds = f"{time.monotonic() - began:.0f} s"
    if view.run is None:
        return Text(f"getting ready  {seconds}", style="bold")
    text = Text(f"round {min(view.run.round, view.run.rounds)}/{view.run.rounds}  ", style="bold")
    text.append(f"{view.run.state:<12}", style="cyan")
    for closed in _closed(view)[-1:]:
        text.append(_spelled(closed.metrics))
    return text.append(f"  {seconds}", style="dim")


def _spelled(metrics: Mapping[str, float]) -> str:
    """Leave out those of parts of the held-out data: they would not fit on a line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in sorted(whole(metrics).items()))


def _devices(view: View, devices: Mapping[str, str]) -> Table:
    table = Table("device", "data", "state", "progress", box=None, padding=(0, 2))
    for name, data in devices.items():
        device = view.devices.get(name)
        table.add_row(name, data, _state(device), _progress(device))
    return table


def _state(device: DeviceDocument | None) -> Text:
    state = device.state if device is not None else "starting"
    return Text(f"{state:<10}", style=STYLES.get(state, ""))


def _progress(device: DeviceDocument | None) -> RenderableType:
    done = device.progress if device is not None and device.state == "training" else 0.0
    return ProgressBar(total=1.0, completed=done, width=BAR_WIDTH)
