"""What every page is made of: a bar at the top, panels, pieces of markup, figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from nicegui import ui

from broker.happenings import Severity
from deploy.dashboard.curves import Figure, options
from deploy.dashboard.guard import LOGOUT
from deploy.dashboard.markup import render
from deploy.dashboard.watcher import Watcher

REFRESH_S = 1.0
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
MARK = Path(__file__).with_name("mark.svg").read_text(encoding="utf-8")


class Piece:
    """A place for the markup of a template; only what differs from what it shows is sent."""

    def __init__(self, template: str, classes: str = "") -> None:
        self._template = template
        self._place = ui.html("").classes(classes)

    def props_of_region(self, name: str) -> Self:
        """Let the keyboard scroll it."""
        self._place.props(f'role=region tabindex=0 aria-label="{name}"')
        return self

    def show(self, **facts: object) -> None:
        """Render the template with these."""
        markup = render(self._template, **facts)
        if markup != self._place.content:
            self._place.set_content(markup)


class Drawing:
    """A figure by ECharts with its table; redrawn when its curves are others."""

    def __init__(self) -> None:
        self._drawn: Figure | None = None
        self._chart = ui.echart({}, renderer="svg").classes("chart").props("role=img")
        self._table = Piece("table", "figure-table")

    def show(self, figure: Figure) -> None:
        """Draw the figure."""
        if figure == self._drawn:
            return
        self._drawn = figure
        self._chart.options.clear()
        self._chart.options.update(options(figure))
        self._chart.props["aria-label"] = figure.facts
        self._chart.update()
        self._table.show(figure=figure)


class Top:
    """The bar: what is watched, and whether all is well; below it what is not."""

    def __init__(self, watcher: Watcher, *, login: bool) -> None:
        self._watcher = watcher
        with ui.element("header").classes("bar-top"):
            ui.html(f'<a class="mark" href="/" aria-label="midge, overview">{MARK}<span>midge</span></a>')
            ui.html(f"federation {watcher.topics.federation}", tag="h1")
            self._status = Piece("status", "status")
            if login:
                ui.html(
                    f'<form method="post" action="{LOGOUT}"><button>Log out</button></form>', sanitize=False
                )

    def place_notices(self) -> None:
        """Put the notices here."""
        self._notices = Piece("notices", "notices")

    def refresh(self) -> None:
        """Show what is the case now."""
        found = self._watcher.notices()
        self._notices.show(notices=found)
        if not found:
            self._status.show(kind="info", text="live")
        elif found[0].severity is Severity.ERROR:
            self._status.show(kind="error", text="not live" if self._watcher.connected else "no connection")
        else:
            self._status.show(kind="warning", text="see below")


@contextmanager
def panel(title: str, classes: str = "") -> Iterator[ui.element]:
    """A section with a heading; yields its head, for what stands beside the heading."""
    name = title.lower().replace(" ", "-").replace("'", "")
    with ui.element("section").classes(f"panel {classes}").props(f"aria-labelledby=h-{name}"):
        with ui.element("div").classes("head") as head:
            ui.html(title, tag="h2").props(f"id=h-{name}")
        yield head


@contextmanager
def frame(watcher: Watcher, *, login: bool) -> Iterator[Top]:
    """A page; yields its top."""
    ui.add_css(STYLE)
    ui.html('<a class="skip" href="#main">To the content</a>')
    top = Top(watcher, login=login)
    with ui.element("main").classes("board").props("id=main"):
        top.place_notices()
        yield top
