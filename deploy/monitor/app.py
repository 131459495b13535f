"""The application: it looks at its feed four times a second, and draws what changed."""

import os
import time
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input
from textual.worker import get_current_worker

from broker.messages import Request, Verb
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE
from deploy.command.control import CredentialsError, ask, new_request
from deploy.monitor.columns import COLUMNS
from deploy.monitor.confirm import Confirm
from deploy.monitor.detail import Detail
from deploy.monitor.panels import Curve, Headline, Log
from deploy.monitor.table import DeviceTable
from deploy.viewing.curves import curves
from deploy.viewing.devices import LOSS, losses
from deploy.viewing.feed import Feed
from deploy.viewing.standing import standing
from deploy.viewing.summary import summary
from host.errors import MidgeError

LOOK_S = 0.25
WIDE = 120
LIGHT_BACKGROUNDS = ("7", "15")


class Monitor(App[None]):
    """Shows what a feed tells; `operator` is the account that commands are given by."""

    CSS_PATH = "monitor.tcss"
    TITLE = "midge monitor"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("l", "toggle_log", "Log"),
        Binding("p", "command('pause')", "Pause"),
        Binding("r", "command('resume')", "Resume"),
        Binding("x", "command('stop')", "Stop"),
        Binding("e", "exclude", "Exclude"),
        Binding("t", "toggle_light", "Light", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, feed: Feed, operator: BrokerSettings, timeout_s: float) -> None:
        # Where no colour is wanted, the terminal's own stand: of others, Textual would leave shades of grey.
        colourless = bool(os.environ.get("NO_COLOR"))
        super().__init__(ansi_color=True if colourless else None)
        # Its type is an instance's.
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]
        self._feed, self._operator, self._timeout_s = feed, operator, timeout_s
        self._heard = 0
        self._asking = False
        self._last_losses: tuple[tuple[int, ...], dict[str, list[float]]] = ((), {})
        self.theme = "ansi-dark" if colourless else "textual-light" if _is_light() else "textual-dark"

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Headline()
        yield DeviceTable()
        with Horizontal(id="below"):
            with Horizontal(id="curves"):
                yield Curve("accuracy")
                yield Curve(LOSS)
            yield Log()
        yield Input(
            placeholder="words that the device, its state, tags or remarks have; Escape: all", id="filter"
        )
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(Input).display = False
        self.query_one(DeviceTable).focus()
        self.call_after_refresh(self.look)
        self.set_interval(LOOK_S, self.look)

    def look(self) -> None:
        """Take over what came, and draw what is new."""
        self._feed.look()
        now = time.monotonic()
        view = self._feed.view
        main = self.screen_stack[0]
        try:
            main.query_one(Headline).show(
                summary(view, self._feed.settings.federation, now), standing(self._feed, now)
            )
            self._show_devices(main.query_one(DeviceTable), now)
            self._show_curves(list(main.query(Curve)))
            main.query_one(Log).add(view.since(self._heard))
        except NoMatches:
            # It is closing.
            return
        self._heard = view.heard
        if isinstance(self.screen, Detail):
            name = self.screen.device
            rounds = view.rounds(view.run.run) if view.run is not None else []
            age_s = view.age_s(MONITOR_DEVICE, now, device=name)
            self.screen.show(view.devices.get(name), age_s, rounds)

    def _show_devices(self, table: DeviceTable, now: float) -> None:
        view = self._feed.view
        devices = view.devices
        ages_s = {name: view.age_s(MONITOR_DEVICE, now, device=name) for name in devices}
        table.show(devices, ages_s, self._losses())

    def _losses(self) -> dict[str, list[float]]:
        view = self._feed.view
        rounds = view.rounds(view.run.run) if view.run is not None else []
        seen = tuple(map(id, rounds))
        if seen != self._last_losses[0]:
            self._last_losses = seen, losses(rounds)
        return self._last_losses[1]

    def _show_curves(self, shown: list[Curve]) -> None:
        found = curves(self._feed.view)
        names = sorted(found, key=lambda name: (name == LOSS, name != "accuracy", name))
        for curve, name in zip(shown, [names[0], LOSS] if names else [], strict=False):
            curve.show(name, found.get(name, []))

    # -- keys ------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type what devices are to be shown."""
        field = self.query_one(Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits so far."""
        self.query_one(DeviceTable).words = event.value
        self.look()

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        field = self.query_one(Input)
        field.display = bool(field.value)
        self.query_one(DeviceTable).focus()

    def key_escape(self) -> None:
        """Show all devices again."""
        field = self.query_one(Input)
        field.value, field.display = "", False
        self.query_one(DeviceTable).focus()

    def action_sort(self) -> None:
        """Sort by the next column."""
        table = self.query_one(DeviceTable)
        table.sort_by((table.sorted_by + 1) % len(COLUMNS))
        self.look()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        table = self.query_one(DeviceTable)
        table.sort_by(table.sorted_by)
        self.look()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by a click."""
        self.query_one(DeviceTable).sort_by(event.column_index)
        self.look()

    def on_data_table_row_selected(self) -> None:
        """Show one device."""
        if (device := self.query_one(DeviceTable).selected) is not None:
            self.push_screen(Detail(device), lambda _: self.look())
            self.call_after_refresh(self.look)

    def action_toggle_log(self) -> None:
        """Where there is no room for both, show the events instead of the curves, or the other way round."""
        self.screen_stack[0].toggle_class("-log")

    def action_toggle_light(self) -> None:
        """Light or dark."""
        self.theme = "textual-dark" if self.theme == "textual-light" else "textual-light"

    # -- commands --------------------------------------------------------------------------------

    def action_command(self, verb: str) -> None:
        """Pause, resume or stop the run, once that is confirmed."""
        run = self._feed.view.run
        if run is None:
            self.notify("there is no run", severity="warning")
            return
        what = {"pause": "Pause", "resume": "Resume", "stop": "Stop"}[verb]
        after = {"stop": " It ends; its model stays.", "pause": " Devices finish what they train."}.get(
            verb, ""
        )
        self._confirm(f"{what} run {run.run} of federation {self._operator.federation}?{after}", Verb(verb))

    def action_exclude(self) -> None:
        """Have the aggregator hear nothing more of the device, once that is confirmed."""
        screen = self.screen
        chosen = screen.device if isinstance(screen, Detail) else self.query_one(DeviceTable).selected
        if chosen is None:
            self.notify("there is no device", severity="warning")
            return
        self._confirm(
            f"Exclude device {chosen}? The aggregator hears nothing more of it until midge admit {chosen}.",
            Verb.EXCLUDE,
            chosen,
        )

    def _confirm(self, question: str, verb: Verb, device: str | None = None) -> None:
        if self._asking:
            self.notify("the aggregator has not answered yet", severity="warning")
            return

        def decided(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            if yes:
                self._asking = True
                request = new_request(verb, device=device)
                self.run_worker(lambda: self._ask(request), thread=True, exit_on_error=False)

        self.push_screen(Confirm(question), decided)

    def _ask(self, request: Request) -> None:
        """In a thread of its own: tell the aggregator, and say here what it answered."""
        worker = get_current_worker()

        def give_up_when_closing() -> None:
            if worker.is_cancelled:
                raise MidgeError("closing")

        text, ok = "", False
        try:
            reply = ask(self._operator, request, self._timeout_s, give_up_when_closing)
            text, ok = reply.text, reply.ok
        except CredentialsError as error:
            text = f"this account may only watch: {error}; give the operator's by --username or --config"
        except MidgeError as error:
            text = str(error)
        if not worker.is_cancelled:
            self.call_from_thread(self._answered, text, ok)

    def _answered(self, text: str, ok: bool) -> None:  # noqa: FBT001 - handed over a thread's border
        self._asking = False
        self.notify(text, severity="information" if ok else "error", markup=False, timeout=10)


def _is_light() -> bool:
    """Whether the terminal says that its background is light, as some do: `COLORFGBG=0;15`."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_BACKGROUNDS
