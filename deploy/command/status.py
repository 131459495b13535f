"""The verbs `status` and `watch`: what the monitor topics tell, once or as it happens."""

import contextlib
import json
import os
import select
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.happenings import EventDocument, Severity
from broker.monitor import DeviceDocument
from broker.topics import Role
from deploy.command.control import CredentialsError, UnansweredError
from deploy.command.options import OperatorSettings, watching
from deploy.viewing.devices import remark
from deploy.viewing.events import line
from deploy.viewing.feed import Feed
from deploy.viewing.picture import picture
from deploy.viewing.standing import Believed, Standing, standing
from deploy.viewing.summary import summary
from deploy.viewing.view import View
from deploy.viewing.words import degrees, duration, percent, rate

TIMEOUT_S = 15.0
LOOK_S = 0.25
# What the broker keeps comes at once, in one go: after so long a silence, that was all.
SETTLED_S = 0.3
WARNED = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    for command in (status, watch):
        app.command()(watching(Role.MONITOR)(command))


def status(
    operator: OperatorSettings,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write the documents as one JSON object.")] = False,
) -> None:
    """Show federation, run, round and devices once; status 69 when the aggregator is offline or silent."""
    timeout_s = operator.timeout_s or TIMEOUT_S
    with Feed(operator.broker, demo=operator.demo) as feed:
        _settle(feed, timeout_s)
        found = standing(feed, time.monotonic())
        if feed.connected and as_json:
            typer.echo(json.dumps(picture(feed.view, found), indent=1))
        elif feed.connected and feed.view.aggregator is not None:
            _print(feed.view, operator.broker.federation)
    _raise_for(found, timeout_s)


def watch(
    operator: OperatorSettings,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write each event as a line of JSON.")] = False,
) -> None:
    """Write events as they happen, after the newest that the broker has; until Ctrl-C."""
    # A reader that went away ends us, and is no error.
    feed = Feed(operator.broker, demo=operator.demo)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), feed:
        _stream(feed, operator.timeout_s or TIMEOUT_S, as_json=as_json)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        return
    # Python flushes once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settle(feed: Feed, timeout_s: float) -> None:
    """Look until everything that the broker keeps is here, or time is over."""
    deadline = time.monotonic() + timeout_s
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < deadline and not feed.refused:
        heard = feed.view.aggregator is not None or feed.view.is_foreign
        if feed.look(LOOK_S / 5) or not feed.connected or not heard:
            quiet_since = now
        elif now - quiet_since > SETTLED_S:
            return


def _stream(feed: Feed, timeout_s: float, *, as_json: bool) -> None:
    deadline = time.monotonic() + timeout_s
    heard, told = 0, ""
    while not _reader_gone():
        feed.look(LOOK_S)
        for event in feed.view.since(heard):
            typer.echo(event.model_dump_json() if as_json else line(event))
        heard = feed.view.heard
        found = standing(feed, time.monotonic())
        if not feed.connected_ever and (feed.refused or time.monotonic() > deadline):
            _raise_for(found, timeout_s)
        if found.believed is not Believed.CONNECTING and found.text != told:
            typer.echo(f"midge: {found.text or 'the aggregator is there'}", err=True)
            told = found.text
        if found.believed is Believed.OVER:
            return


def _reader_gone() -> bool:
    """Whether nobody reads our output any more, which writing would tell only with the next event."""
    try:
        output = sys.stdout.fileno()
    except OSError:
        return False
    poll = select.poll()
    poll.register(output, 0)
    return any(happened & select.POLLERR for _, happened in poll.poll(0))


def _raise_for(found: Standing, timeout_s: float) -> None:
    """Raise what ends the command with the right exit status, unless all is well."""
    if found.believed is Believed.REFUSED:
        raise CredentialsError(found.text)
    if found.believed in (Believed.UNREACHABLE, Believed.CONNECTING, Believed.UNHEARD):
        raise UnansweredError(f"no answer within {timeout_s:g} s: {found.text}")
    if found.believed is not Believed.CURRENT:
        raise UnansweredError(found.text)


def _print(view: View, federation: str) -> None:
    console = Console()
    for told in summary(view, federation, time.monotonic()):
        if told.text:
            console.print(told.text, highlight=False, markup=False, soft_wrap=True)
    if view.devices:
        console.print(_devices(list(view.devices.values())))
    if view.incidents is not None and view.incidents.incidents:
        newest = view.incidents.incidents[0]
        console.print(f"incident: {newest.kind} {newest.subject}: {newest.detail}", markup=False)
    for event in _notable(view):
        console.print(Text(line(event), WARNED[event.severity]), soft_wrap=True)


def _notable(view: View) -> list[EventDocument]:
    """The newest events that somebody should look at."""
    return [event for event in view.events if event.severity is not Severity.INFO][-5:]


def _devices(devices: list[DeviceDocument]) -> Table:
    table = Table(
        "device", "state", "done", "rate", "due", "temp", "battery", "counted", box=None, pad_edge=False
    )
    table.add_column("remarks", overflow="fold")
    for device in devices:
        table.add_row(
            device.device,
            Text(device.state, "" if device.live else "red"),
            percent(device.progress) if device.state == "training" else "",
            rate(device.examples_per_s),
            duration(device.seconds_left),
            degrees(device.temperature_c),
            percent(device.battery),
            f"{device.accepted}/{device.asked}",
            Text(remark(device)),
        )
    return table
