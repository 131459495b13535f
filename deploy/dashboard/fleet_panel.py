"""The devices: a square each, cards by the page, and what filters and sorts them."""

import time
from collections.abc import Mapping, Sequence

from nicegui import ui

from broker.monitor import DeviceDocument
from broker.topics import MONITOR_DEVICE
from deploy.dashboard.fleet import ORDERS, PER_PAGE, SHOWN, Choice, Page, choose, counted, needs_care, spark
from deploy.dashboard.frame import Piece, panel
from deploy.dashboard.markup import render
from deploy.dashboard.watcher import Watcher
from deploy.viewing.devices import is_hot

SQUARES_EVERY_S = 2.0


class FleetPanel:
    """Its controls change the choice; `show` brings all of it up to date."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._devices: Sequence[DeviceDocument] = ()
        self._losses: Mapping[str, list[float]] = {}
        self._squares_due = 0.0
        with panel("Devices") as head:
            with head:
                self._found = ui.html("", tag="span").classes("aside")
                self._place_tools()
            self._squares = Piece("squares")
            with ui.element("div").classes("cards"):
                self._slots = [_Slot() for _ in range(PER_PAGE)]
            self._empty = ui.html("No device has been heard yet.").classes("empty")
            self._place_pages()

    def _place_tools(self) -> None:
        with ui.element("div").classes("tools"):
            look = "outlined dense"
            self._words = ui.input("Find").props(f"{look} debounce=250 clearable type=search")
            self._shown = ui.select(list(SHOWN), value="all", label="Show").props(look)
            self._order = ui.select(list(ORDERS), value="name", label="Sort by").props(look)
        for control in (self._words, self._shown, self._order):
            control.on_value_change(lambda: self._turn(to=1))

    def _place_pages(self) -> None:
        self._page = 1
        with ui.element("nav").classes("pages").props('aria-label="pages of devices"') as self._pages:
            self._back = ui.button("Previous", on_click=lambda: self._turn(by=-1), color=None)
            self._number = ui.html("", tag="span")
            self._next = ui.button("Next", on_click=lambda: self._turn(by=1), color=None)
        for button in (self._back, self._next):
            button.props("flat dense no-caps")

    def _turn(self, by: int = 0, to: int | None = None) -> None:
        self._page = max(1, (to or self._page) + by)
        self._show_cards()

    def show(self, devices: Sequence[DeviceDocument], losses: Mapping[str, list[float]]) -> None:
        """Bring squares and cards up to date."""
        self._devices, self._losses = devices, losses
        now = time.monotonic()
        # Of a large fleet some device differs every second.
        if now >= self._squares_due:
            self._squares_due = now + SQUARES_EVERY_S
            self._squares.show(devices=devices if len(devices) > PER_PAGE else (), states=counted(devices))
        self._show_cards()

    def _show_cards(self) -> None:
        choice = Choice(self._words.value or "", self._shown.value, self._order.value, self._page)
        page = choose(self._devices, choice)
        self._page = page.number
        self._show_count(page)
        for index, slot in enumerate(self._slots):
            device = page.devices[index] if index < len(page.devices) else None
            slot.show(device, self._is_stale(device), self._losses)

    def _show_count(self, page: Page) -> None:
        of = len(self._devices)
        _set(self._found, f"{page.found} of {of}" if page.found != of else str(of))
        _set(self._number, f"page {page.number} of {page.pages}")
        _set(self._empty, "None fits these words." if of else "No device has been heard yet.")
        self._empty.set_visibility(not page.devices)
        self._pages.set_visibility(page.pages > 1)
        self._back.set_enabled(page.number > 1)
        self._next.set_enabled(page.number < page.pages)

    def _is_stale(self, device: DeviceDocument | None) -> bool:
        if device is None:
            return False
        topic = self._watcher.topics.topic(MONITOR_DEVICE, device=device.device)
        return self._watcher.view.is_stale(topic, time.monotonic())


class _Slot:
    """A place for a device's card; it stays, and its keyboard focus with it, while the card changes."""

    def __init__(self) -> None:
        self._link = ui.link(target="/").classes("card")
        with self._link:
            self._card = ui.html("").classes("inside")

    def show(self, device: DeviceDocument | None, stale: bool, losses: Mapping[str, list[float]]) -> None:  # noqa: FBT001  a fact
        self._link.set_visibility(device is not None)
        if device is None:
            return
        href = f"/device/{device.device}"
        if self._link.props.get("href") != href:
            self._link.props["href"] = href
        facts = {
            "busy": device.live and device.state != "idle",
            "stale": stale,
            "care": needs_care(device),
            "hot": is_hot(device),
            "spark": spark(losses.get(device.device, ())),
        }
        _set(self._card, render("card", device=device, **facts))


def _set(place: ui.html, markup: str) -> None:
    if place.content != markup:
        place.set_content(markup)
