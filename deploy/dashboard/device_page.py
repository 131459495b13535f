"""The page of one device."""

import time
from collections.abc import Callable

from nicegui import ui

from broker.monitor import DeviceDocument
from broker.topics import MONITOR_DEVICE
from deploy.dashboard.curves import device_figures
from deploy.dashboard.fleet import needs_care
from deploy.dashboard.frame import REFRESH_S, Drawing, Piece, frame, panel
from deploy.dashboard.lanes import DOING, device_chart
from deploy.dashboard.watcher import Watcher
from deploy.viewing.prose import duration, number
from deploy.viewing.words import degrees, moment, percent, size, whole

SHOWN_EVENTS = 50


class DevicePage:
    """All panels, and how they are brought up to date."""

    def __init__(self, watcher: Watcher, device: str, *, login: bool) -> None:
        self._watcher, self._name = watcher, device
        with frame(watcher, login=login) as self._top:
            with panel(f"Device {device}"):
                self._facts = Piece("device")
            self._drawings = []
            for title in ("Metrics by round", "Loss by round", "Bytes by round"):
                with panel(title, "of-4"):
                    self._drawings.append(Drawing())
            with panel("Recent rounds"):
                self._lanes = Piece("lanes")
            with panel("Events"):
                self._events = Piece("events")

    def refresh(self) -> None:
        """Show what is the case now."""
        view = self._watcher.view
        self._top.refresh()
        device = view.devices.get(self._name)
        topic = self._watcher.topics.topic(MONITOR_DEVICE, device=self._name)
        self._facts.show(
            name=self._name,
            device=device,
            stale=view.is_stale(topic, time.monotonic()),
            care=needs_care(device) if device is not None else "",
            fields=fields(device) if device is not None else [],
        )
        rounds = view.closed(view.run.run) if view.run is not None else []
        for drawing, figure in zip(self._drawings, device_figures(rounds, self._name), strict=True):
            drawing.show(figure)
        self._lanes.show(
            chart=device_chart(rounds, self._name),
            doing=DOING,
            caption="what it did in recent rounds, by the time since each opened",
            of="round",
        )
        events = [one for one in view.events if one.device == self._name]
        self._events.show(events=events[: -SHOWN_EVENTS - 1 : -1])


def fields(device: DeviceDocument) -> list[tuple[str, str]]:
    """All that is known of a device, in words; what it does not say is left out."""
    found: list[tuple[str, str | None]] = [
        ("Run and round", f"{device.run}, {device.round}" if device.run else None),
        ("Examples", number(device.examples)),
        ("Examples a second", number(device.examples_per_s) if device.examples_per_s else None),
        ("Measured rate", f"{number(device.measured_per_s)}/s" if device.measured_per_s else None),
        ("Update due in", _if(device.seconds_left, duration)),
        ("Memory", size(device.memory_bytes) if device.memory_bytes else None),
        ("Temperature", _if(device.temperature_c, degrees)),
        ("Battery", _if(device.battery, percent)),
        ("Loss of its last training", _if(device.loss, number)),
        *((f"Validation {name}", number(value)) for name, value in whole(device.metrics).items()),
        ("Sent up", size(device.bytes_up)),
        ("Fetched", size(device.bytes_down)),
        ("Runtimes", ", ".join(device.runtimes)),
        ("Tags", ", ".join(device.tags)),
        ("Version", device.version),
        ("Last heard", _if(device.heard_at_unix_s, moment)),
    ]
    return [(name, value) for name, value in found if value]


def _if(value: float | None, spell: Callable[[float], str]) -> str | None:
    return None if value is None else spell(value)


def show_device(watcher: Watcher, device: str, *, login: bool) -> None:
    """Build the page for one browser, and keep it up to date."""
    page = DevicePage(watcher, device, login=login)
    page.refresh()
    ui.timer(REFRESH_S, page.refresh, immediate=False)
