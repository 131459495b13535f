"""The page of a federation."""

import time
from collections import Counter

from nicegui import ui

from broker.monitor import RoundDocument, RunDocument
from deploy.dashboard.curves import run_figures, summaries
from deploy.dashboard.fleet import counted, losses
from deploy.dashboard.fleet_panel import FleetPanel
from deploy.dashboard.frame import REFRESH_S, Drawing, Piece, frame, panel
from deploy.dashboard.lanes import DOING, round_chart
from deploy.dashboard.mistakes import mistakes
from deploy.dashboard.watcher import Watcher
from deploy.dashboard.words import whole

FIGURES_EVERY_S = 2.0
SHOWN_EVENTS = 100
SHOWN_METRICS = 3
NEWEST = "newest"
PHASES = ("training", "aggregating", "evaluating")
WARNINGS = "warnings and errors"


class Overview:
    """All panels, and how each is brought up to date."""

    def __init__(self, watcher: Watcher, *, login: bool) -> None:
        self._watcher = watcher
        self._figures_due = 0.0
        self._losses: tuple[object, dict[str, list[float]]] = None, {}
        with frame(watcher, login=login) as self._top:
            with panel("Round", "of-8"):
                self._round = Piece("round")
            with panel("Federation", "of-4"):
                self._federation = Piece("federation")
            self._fleet = FleetPanel(watcher)
            self._place_figures()
            self._place_timeline()
            with panel("Confusion matrix", "of-4"):
                self._confusion = Piece("confusion")
            self._place_events()

    def _place_figures(self) -> None:
        self._drawings = []
        for title in ("Score by round", "Loss by round", "Bytes by round"):
            with panel(title, "of-4"):
                self._drawings.append(Drawing())

    def _place_timeline(self) -> None:
        with panel("Timeline of a round", "of-8") as head:
            with head, ui.element("div").classes("tools"):
                self._chosen = ui.select([NEWEST], value=NEWEST, label="Round").props("outlined dense")
                self._chosen.on_value_change(self._show_timeline)
            self._timeline = Piece("lanes")

    def _place_events(self) -> None:
        with panel("Events") as head:
            with head, ui.element("div").classes("tools"):
                kinds = ["all", WARNINGS]
                self._kinds = ui.select(kinds, value="all", label="Show").props("outlined dense")
                self._kinds.on_value_change(self._show_events)
            self._events = Piece("events")

    def refresh(self) -> None:
        """Show what is the case now."""
        view = self._watcher.view
        run = view.run
        rounds = view.rounds(run.run) if run is not None else []
        self._top.refresh()
        self._show_round(run, rounds)
        self._show_federation(run)
        self._fleet.show(list(view.devices.values()), self._losses_of(run, rounds))
        self._show_rounds(rounds)
        self._show_timeline()
        self._show_events()
        now = time.monotonic()
        if run is not None and now >= self._figures_due:
            self._figures_due = now + FIGURES_EVERY_S
            closed = [one for one in rounds if one.outcome is not None]
            figures = run_figures(summaries(view.history(run.run), closed))
            for drawing, figure in zip(self._drawings, figures, strict=True):
                drawing.show(figure)
            self._show_confusion(run)

    def _show_round(self, run: RunDocument | None, rounds: list[RoundDocument]) -> None:
        current = rounds[-1] if rounds else None
        facts: dict[str, object] = {"left_s": None, "eta_s": None, "share": 0, "statuses": {}, "reached": 0}
        if current is not None:
            elapsed_s = self._watcher.elapsed_s(current)
            is_open = current.outcome is None
            facts = {
                "left_s": _less(current.seconds_left, elapsed_s),
                "eta_s": _less(current.eta_s, elapsed_s),
                "share": round(100 * min(1.0, current.reported / max(1, current.target)), 1),
                "statuses": dict(Counter(part.status for part in current.participants.values()).most_common()),
                "reached": PHASES.index(current.phase) if is_open and current.phase in PHASES else len(PHASES),
            }
        self._round.show(run=run, round=current, phases=PHASES, **facts)

    def _show_federation(self, run: RunDocument | None) -> None:
        view = self._watcher.view
        devices = view.devices.values()
        metrics = list(whole(run.metrics).items())[:SHOWN_METRICS] if run is not None else []
        self._federation.show(
            live=view.live, known=len(devices), states=counted(devices), run=run, metrics=metrics
        )

    def _losses_of(self, run: RunDocument | None, rounds: list[RoundDocument]) -> dict[str, list[float]]:
        closed = [one for one in rounds if one.outcome is not None]
        key = (run.run, len(closed), closed[-1].round) if run is not None and closed else None
        if key != self._losses[0]:
            self._losses = key, losses(closed)
        return self._losses[1]

    def _show_rounds(self, rounds: list[RoundDocument]) -> None:
        choices = [NEWEST, *(str(one.round) for one in reversed(rounds))]
        if choices != self._chosen.options:
            value = self._chosen.value if self._chosen.value in choices else NEWEST
            self._chosen.set_options(choices, value=value)

    def _show_timeline(self) -> None:
        run = self._watcher.view.run
        rounds = self._watcher.view.rounds(run.run) if run is not None else []
        wanted = self._chosen.value
        fitting = [one for one in rounds if wanted in (NEWEST, str(one.round))]
        if not fitting:
            self._timeline.show(chart=_NOTHING, doing=DOING, caption="", of="", empty="No round yet.")
            return
        shown = fitting[-1]
        chart = round_chart(shown, self._watcher.elapsed_s(shown) if shown.outcome is None else 0.0)
        caption = f"round {shown.round}: who did what, by the time since it opened"
        self._timeline.show(chart=chart, doing=DOING, caption=caption, of="device", empty="Nobody takes part.")

    def _show_confusion(self, run: RunDocument) -> None:
        document = self._watcher.view.confusion(run.run)
        found = None if document is None else mistakes(document)
        self._confusion.show(found=found, round=document.round if document is not None else 0)

    def _show_events(self) -> None:
        events = self._watcher.view.events
        if self._kinds.value == WARNINGS:
            events = [one for one in events if one.severity != "info"]
        self._events.show(events=events[: -SHOWN_EVENTS - 1 : -1])


_NOTHING = {"lanes": (), "ticks": (), "kinds": (), "more": 0}


def _less(seconds: float | None, elapsed_s: float) -> float | None:
    return None if seconds is None else max(0.0, seconds - elapsed_s)


def show_overview(watcher: Watcher, *, login: bool) -> None:
    """Build the page for one browser, and keep it up to date."""
    page = Overview(watcher, login=login)
    page.refresh()
    ui.timer(REFRESH_S, page.refresh, immediate=False)
