"""The verb `devices`: who is in the federation."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.homes import HomeOption
from deploy.command.options import OPERATOR_FILE, OperatorSettings
from deploy.home.home import Home
from deploy.trust.devices import DeviceRow, device_rows, open_tokens, shown_devices
from host.errors import ConfigError
from host.settings import load_settings

SOON_DAYS = 60
AGES = (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(devices)


def devices(
    *,
    home: HomeOption = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the devices: certificates and unused tokens, and what the aggregator last heard of them."""
    opened = Home.open(home)
    documents = shown_devices(operator_broker(opened))
    now = datetime.now(UTC)
    tokens = open_tokens(opened.tokens().all(), now)
    authority = opened.authority()
    sole_issuer = authority.issuer_id if authority.stage is None else None
    rows = device_rows(authority.register.all(), documents or {}, tokens, sole_issuer)
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
    elif rows:
        Console().print(_table(rows, now))
    else:
        typer.echo("no device yet: midge enroll ID")
    if documents is None:
        typer.echo("the broker cannot be asked: this is the register alone", err=True)


def operator_broker(home: Home) -> BrokerSettings:
    """How the home's operator reaches the broker; raises ConfigError."""
    path = home.of(Role.OPERATOR) / OPERATOR_FILE
    if not path.is_file():
        raise ConfigError(f"{path} is missing: midge init {home.root} makes it")
    return load_settings(OperatorSettings, path, {}, {}).broker


def _table(rows: list[DeviceRow], now: datetime) -> Table:
    table = Table("device", "state", "last heard", "certificate", "tags", "version")
    for column in table.columns[:3]:
        column.no_wrap = True
    for row in rows:
        seen = ago(now - row.seen) if row.seen else ""
        table.add_row(row.device, row.state, seen, _rights(row, now), " ".join(row.tags), row.version)
    return table


def ago(age: timedelta) -> str:
    """How long ago, in one unit."""
    seconds = max(0, int(age.total_seconds()))
    unit, length = next((unit, length) for unit, length in AGES if seconds >= 2 * length or length == 1)
    return f"{seconds // length} {unit} ago"


def _rights(row: DeviceRow, now: datetime) -> str:
    if row.token_until is None:
        return _certificate(row, now)
    token = f"[cyan]token until {row.token_until.astimezone():%Y-%m-%d %H:%M}[/cyan]"
    return token if row.certificate_until is None else f"{_certificate(row, now)}, {token}"


def _certificate(row: DeviceRow, now: datetime) -> str:
    until = row.certificate_until
    if until is None:
        return "none of ours"
    if row.revoked is not None:
        return f"[red]revoked {row.revoked:%Y-%m-%d}[/red]"
    if row.left_behind:
        return "[red]of a former authority[/red]"
    if until <= now:
        return f"[red]expired {until:%Y-%m-%d}[/red]"
    text = f"until {until:%Y-%m-%d}"
    return f"[yellow]{text}[/yellow]" if (until - now).days < SOON_DAYS else text
