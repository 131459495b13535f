"""One device: everything that is known of it, and its part in recent rounds."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from broker.monitor import DeviceDocument, ParticipantDocument, RoundDocument
from deploy.viewing.devices import remark
from deploy.viewing.words import NONE, degrees, duration, metrics, percent, rate, size


class Detail(Screen[None]):
    """Shown over the table until Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "dismiss", "Back"),
        Binding("e", "app.exclude", "Exclude"),
    ]

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self._said: object = None

    def compose(self) -> ComposeResult:
        """A page that scrolls."""
        with VerticalScroll():
            yield Static(id="detail")
        yield Footer(compact=True)

    def show(self, device: DeviceDocument | None, age_s: float, rounds: Sequence[RoundDocument]) -> None:
        """Draw it if it is new, at most once a second."""
        if (said := (device, round(age_s), tuple(map(id, rounds)))) != self._said:
            self._said = said
            page = self.query_one("#detail", Static)
            if device is None:
                page.update(f"{self.device} is known no more")
            else:
                page.update(Group(_fields(device, age_s), *_rounds(self.device, rounds)))


def _fields(device: DeviceDocument, age_s: float) -> Table:
    table = Table(title=device.device, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", min_width=16)
    table.add_column(overflow="fold")
    for name, said in _known(device, age_s):
        table.add_row(name, Text(said or NONE))
    return table


def _known(device: DeviceDocument, age_s: float) -> Iterator[tuple[str, str]]:
    heard = device.heard_at_unix_s
    left = device.seconds_left
    yield "state", device.state if device.live else "lost"
    yield "last heard", NONE if heard is None else f"{duration(device.at_unix_s - heard + age_s)} ago"
    yield "in round", f"{device.round} of {device.run}" if device.round is not None else ""
    yield "progress", percent(device.progress)
    yield "due in", duration(None if left is None else left - age_s)
    yield "rate", f"{rate(device.examples_per_s)} now, {rate(device.measured_per_s)} measured"
    yield "examples", str(device.examples)
    yield "loss", NONE if device.loss is None else f"{device.loss:.4g}"
    yield "metrics", metrics(device.metrics)
    yield "counted", f"{device.accepted} of {device.asked} rounds, reliability {percent(device.reliability)}"
    yield "contribution", percent(device.contribution)
    yield "remarks", remark(device)
    yield "temperature", degrees(device.temperature_c)
    yield "battery", percent(device.battery)
    yield "memory", size(device.memory_bytes)
    yield "sent, received", f"{size(device.bytes_up)}, {size(device.bytes_down)}"
    yield "runtimes", ", ".join(device.runtimes)
    yield "tags", ", ".join(device.tags)
    yield "version", device.version


def _rounds(device: str, rounds: Sequence[RoundDocument]) -> Iterator[RenderableType]:
    parts = [(one.round, one.participants[device]) for one in rounds if device in one.participants]
    if not parts:
        yield Text("\nIt took part in no recent round.")
        return
    table = Table(
        *(
            "round",
            "status",
            "examples",
            "trained",
            "its training",
            "its model",
            "the new model",
            "up",
            "down",
        ),
        title="\nrecent rounds, newest first",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("why", overflow="fold")
    for number, part in reversed(parts):
        # Devices name metrics, and rich takes brackets in a plain string for markup.
        said = (str(number), part.status, str(part.examples), *_measured(part), part.reason)
        table.add_row(*map(Text, said))
    yield table
    newest, part = parts[-1]
    if part.steps:
        steps = "  ".join(f"{step.state} at {duration(step.at_s)}" for step in part.steps)
        yield Text(f"\nsteps of round {newest}: {steps}")


def _measured(part: ParticipantDocument) -> tuple[str, ...]:
    means = (metrics(one) for one in (part.training, part.validation, part.evaluation))
    return (duration(part.seconds), *means, size(part.bytes_up), size(part.bytes_down))
