"""The application: it looks at its feed four times a second, and draws what changed."""

import os
import time
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input
from textual.worker import get_current_worker

from broker.control import Request, Verb
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE
from deploy.command.control import CredentialsError, ask, new_request
from deploy.monitor.columns import COLUMNS
from deploy.monitor.confirm import Confirm
from deploy.monitor.detail import Detail
from deploy.monitor.panels import Alert, Curve, Headline, Log
from deploy.monitor.table import DeviceTable
from deploy.viewing.curves import curves
from deploy.viewing.devices import LOSS, LossHistory
from deploy.viewing.feed import Feed
from deploy.viewing.standing import standing
from deploy.viewing.summary import summary
from host.errors import MidgeError

LOOK_S = 0.25
WIDE = 120
FILTER = "words that a device's id, state, tags or remarks have; Escape: all"
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
        self._losses = LossHistory()
        self.theme = "ansi-dark" if colourless else "textual-light" if _is_light() else "textual-dark"

        self._alert, self._headline = Alert(), Headline()
        self._table, self._events = DeviceTable(), Log()
        self._curves = (Curve("accuracy"), Curve(LOSS))
        self._filter = Input(placeholder=FILTER, id="filter")

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self._alert
        yield self._headline
        yield self._table
        with Horizontal(id="below"):
            with Horizontal(id="curves"):
                yield from self._curves
            yield self._events
        yield self._filter
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self._filter.display = False
        self._table.focus()
        self.call_after_refresh(self.look)
        self.set_interval(LOOK_S, self.look)

    def look(self) -> None:
        """Take over what came, and draw what is new."""
        if not self.screen_stack:
            # It is closing.
            return
        self._feed.look()
        now = time.monotonic()
        view = self._feed.view
        self._alert.show(standing(self._feed, now))
        self._headline.show(summary(view, self._feed.settings.federation, now))
        rounds = view.rounds(view.run.run) if view.run is not None else []
        devices = view.devices
        ages_s = {name: view.age_s(MONITOR_DEVICE, now, device=name) for name in devices}
        self._table.show(devices, ages_s, self._losses.of(rounds))
        self._show_curves()
        self._events.add(view.since(self._heard))
        self._heard = view.heard
        if isinstance(self.screen, Detail):
            name = self.screen.device
            self.screen.show(devices.get(name), ages_s.get(name, 0.0), rounds)

    def _show_curves(self) -> None:
        found = curves(self._feed.view)
        names = sorted(found, key=lambda name: (name == LOSS, name != "accuracy", name))
        for curve, name in zip(self._curves, [names[0], LOSS] if names else [], strict=False):
            curve.show(name, found.get(name, []))

    # -- keys ------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type what devices are to be shown."""
        self._filter.display = True
        self._filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits so far."""
        self._table.words = event.value
        self.look()

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        self._filter.display = bool(self._filter.value)
        self._table.focus()

    def key_escape(self) -> None:
        """Show all devices again."""
        self._filter.value, self._filter.display = "", False
        self._table.focus()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._table.sort_by((self._table.sorted_by + 1) % len(COLUMNS))
        self.look()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._table.sort_by(self._table.sorted_by)
        self.look()

    def on_device_table_chosen(self, event: DeviceTable.Chosen) -> None:
        """Show one device."""
        self.push_screen(Detail(event.device))
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
        question = f"{what} run {run.run} of federation {self._operator.federation}?{after}"
        self._confirm(question, Verb(verb), run=run.run)

    def action_exclude(self) -> None:
        """Have the aggregator hear nothing more of the device, once that is confirmed."""
        screen = self.screen
        chosen = screen.device if isinstance(screen, Detail) else self._table.selected
        if chosen is None:
            self.notify("there is no device", severity="warning")
            return
        self._confirm(
            f"Exclude device {chosen}? The aggregator hears nothing more of it until midge admit {chosen}.",
            Verb.EXCLUDE,
            device=chosen,
        )

    def _confirm(
        self, question: str, verb: Verb, *, device: str | None = None, run: str | None = None
    ) -> None:
        if self._asking:
            self.notify("the aggregator has not answered yet", severity="warning")
            return

        def decided(yes: bool | None) -> None:  # noqa: FBT001 - Textual's callback
            active = self._feed.view.run
            if yes and run is not None and (active is None or active.run != run):
                # A request names no run: it would be about another one than the question.
                self.notify(f"run {run} is over: nothing was asked for", severity="warning")
            elif yes:
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
