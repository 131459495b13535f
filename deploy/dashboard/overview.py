"""The page of a federation."""

import time
from collections import Counter
from itertools import islice

from nicegui import ui

from broker.monitor import RoundDocument, RunDocument
from deploy.dashboard.curves import run_figures
from deploy.dashboard.fleet import counted, needs_care
from deploy.dashboard.fleet_panel import FleetPanel
from deploy.dashboard.frame import REFRESH_S, Drawing, Piece, frame, panel
from deploy.dashboard.lanes import DOING, round_chart
from deploy.dashboard.mistakes import mistakes
from deploy.dashboard.watcher import Watcher
from deploy.viewing.curves import summaries
from deploy.viewing.devices import LossHistory
from deploy.viewing.words import whole

FIGURES_EVERY_S = 2.0
SHOWN_EVENTS = 100
SHOWN_METRICS = 3
SHOWN_LOOKS = 5
NEWEST = "newest"
PHASES = ("training", "aggregating", "evaluating")
WARNINGS = "warnings and errors"


class Overview:
    """All panels, and how each is brought up to date."""

    def __init__(self, watcher: Watcher, *, login: bool) -> None:
        self._watcher = watcher
        self._figures_due = 0.0
        self._losses = LossHistory()
        with frame(watcher, login=login) as self._top:
            self._place_round()
            with panel("Federation", "of-4"):
                self._federation = Piece("federation")
            self._fleet = FleetPanel(watcher)
            self._place_figures()
            with panel("Confusion matrix", "of-4"):
                self._confusion = Piece("confusion")
            self._place_events()

    def _place_figures(self) -> None:
        self._drawings = []
        for title in ("Metrics by round", "Loss by round", "Bytes by round"):
            with panel(title, "of-4"):
                self._drawings.append(Drawing())

    def _place_round(self) -> None:
        with panel("Round", "of-8") as head:
            with head, ui.element("div").classes("tools"):
                self._chosen = ui.select([NEWEST], value=NEWEST, label="Show").props("outlined dense")
                self._chosen.on_value_change(lambda: self._show_round(self._watcher.view.run))
            self._round = Piece("round")
            self._lanes = Piece("lanes", "scrolled").props_of_region("who did what in the round")

    def _place_events(self) -> None:
        with panel("Events", "of-8") as head:
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
        self._offer_rounds(rounds)
        self._show_round(run)
        self._show_federation(run)
        closed = [one for one in rounds if one.outcome is not None]
        self._fleet.show(list(view.devices.values()), self._losses.of(closed))
        self._show_events()
        now = time.monotonic()
        if run is not None and now >= self._figures_due:
            self._figures_due = now + FIGURES_EVERY_S
            figures = run_figures(summaries(view.history(run.run), closed))
            for drawing, figure in zip(self._drawings, figures, strict=True):
                drawing.show(figure)
            self._show_confusion(run)

    def _offer_rounds(self, rounds: list[RoundDocument]) -> None:
        choices = [NEWEST, *(str(one.round) for one in reversed(rounds))]
        if choices != self._chosen.options:
            value = self._chosen.value if self._chosen.value in choices else NEWEST
            self._chosen.set_options(choices, value=value)

    def _show_round(self, run: RunDocument | None) -> None:
        rounds = self._watcher.view.rounds(run.run) if run is not None else []
        fitting = [one for one in rounds if self._chosen.value in (NEWEST, str(one.round))]
        if not fitting:
            self._round.show(run=run, round=None)
            self._lanes.show(chart=None)
            return
        shown = fitting[-1]
        elapsed_s = self._watcher.elapsed_s(shown) if shown.outcome is None else 0.0
        self._round.show(run=run, round=shown, phases=PHASES, **round_facts(shown, elapsed_s))
        caption = f"round {shown.round}: who did what, by the time since it opened"
        self._lanes.show(chart=round_chart(shown, elapsed_s), doing=DOING, caption=caption, of="device")

    def _show_federation(self, run: RunDocument | None) -> None:
        view = self._watcher.view
        devices = view.devices.values()
        metrics = list(whole(run.metrics).items())[:SHOWN_METRICS] if run is not None else []
        looks = ((one.device, why) for one in devices if (why := needs_care(one)))
        self._federation.show(
            live=view.live,
            known=len(devices),
            states=counted(devices),
            run=run,
            metrics=metrics,
            looks=list(islice(looks, SHOWN_LOOKS)),
        )

    def _show_confusion(self, run: RunDocument) -> None:
        document = self._watcher.view.confusion(run.run)
        found = None if document is None else mistakes(document)
        self._confusion.show(found=found, round=document.round if document is not None else 0)

    def _show_events(self) -> None:
        events = self._watcher.view.events
        if self._kinds.value == WARNINGS:
            events = [one for one in events if one.severity != "info"]
        self._events.show(events=events[: -SHOWN_EVENTS - 1 : -1])


def round_facts(document: RoundDocument, elapsed_s: float) -> dict[str, object]:
    """What the head of a round says beside its document; time has gone on since that was written."""
    is_open = document.outcome is None and document.phase in PHASES
    return {
        "left_s": _less(document.seconds_left, elapsed_s),
        "eta_s": _less(document.eta_s, elapsed_s),
        "share": round(100 * min(1.0, document.reported / max(1, document.target)), 1),
        "statuses": dict(Counter(part.status for part in document.participants.values()).most_common()),
        "reached": PHASES.index(document.phase) if is_open else len(PHASES),
    }


def _less(seconds: float | None, elapsed_s: float) -> float | None:
    return None if seconds is None else max(0.0, seconds - elapsed_s)


def show_overview(watcher: Watcher, *, login: bool) -> None:
    """Build the page for one browser, and keep it up to date."""
    page = Overview(watcher, login=login)
    page.refresh()
    ui.timer(REFRESH_S, page.refresh, immediate=False)
