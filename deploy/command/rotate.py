"""The verbs of `rotate`: keys that give way to others while the fleet goes on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from aggregator.settings import SIGNING_KEY
from broker.topics import Role
from deploy.command.homes import HomeOption
from deploy.command.revoke import BrokerConfigOption, own_broker, say
from deploy.home.home import Home
from deploy.pki.succession import Stage
from deploy.trust.authorities import finish_ca, left_behind, rotate_ca, tokens_left_behind
from deploy.trust.rotation import rotate_broker, rotate_signing
from host.errors import ConfigError

rotate = typer.Typer(no_args_is_help=True, help="Change keys while the fleet goes on.")


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.add_typer(rotate, name="rotate")


@rotate.command()
def broker(*, home: HomeOption = Path(), broker_config: BrokerConfigOption = None) -> None:
    """Give the broker a new key and certificate. On the broker's machine; nobody is disconnected."""
    opened = Home.open(home)
    if code := rotate_broker(opened, own_broker(opened, broker_config).file, say):
        raise typer.Exit(code)


@rotate.command()
def ca(
    *,
    home: HomeOption = Path(),
    broker_config: BrokerConfigOption = None,
    status: Annotated[bool, typer.Option("--status", help="Say who still has the old authority.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Take the old authority away.")] = False,
    leave: Annotated[
        bool, typer.Option("--leave", help="With --finish: lock out those who still have it.")
    ] = False,
) -> None:
    """Change the certificate authority, root and all, while the fleet goes on. On the broker's machine.

    Broker and devices trust both, and the registrar has every device renew within a day. When --status names
    nobody any more, --finish has all trust the new one only. What was interrupted goes on when run again.
    """
    opened = Home.open(home)
    if status:
        _say_who_is_left(opened)
        return
    file = own_broker(opened, broker_config).file
    code = finish_ca(opened, file, say, leave=leave) if finish else rotate_ca(opened, file, say)
    if code:
        raise typer.Exit(code)


def _say_who_is_left(home: Home) -> None:
    authority = home.authority()
    if authority.stage is None:
        typer.echo("no other authority is on its way: midge rotate ca begins")
        return
    if authority.stage is Stage.TRUSTED:
        typer.echo("another authority is made, and nobody was seen to trust it yet: midge rotate ca goes on")
        return
    now = datetime.now(UTC)
    rows, tokens = left_behind(authority, now), tokens_left_behind(authority, home.tokens(), now)
    for row in rows:
        typer.echo(f"{row.name:<34}{row.role:<12}certified {row.issued_at.astimezone():%Y-%m-%d %H:%M}")
    for token in tokens:
        made = datetime.fromtimestamp(token.made_unix_s, UTC).astimezone()
        typer.echo(f"{token.device:<34}{'token':<12}made {made:%Y-%m-%d %H:%M}, not used yet")
    left = len(rows) + len(tokens)
    typer.echo(f"{left} are with the old authority alone" + ("" if left else ": --finish"))


@rotate.command()
def signing(
    *,
    home: HomeOption = Path(),
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The aggregator's folder, if it is not the home's.", show_default=False
        ),
    ] = None,
) -> None:
    """Give the aggregator a new signing key, for which the old one vouches: devices follow by themselves.

    It takes effect when the aggregator is started again. Where the old key leaked, its thief can name a
    successor, too: pin the new key on every device instead.
    """
    opened = Home.open(home)
    key_file = (folder or opened.of(Role.AGGREGATOR)) / SIGNING_KEY
    if not key_file.exists():
        raise ConfigError(f"{key_file} is missing: name the aggregator's folder by --folder")
    before, after = rotate_signing(opened, key_file)
    say("signing", f"{before[:8]}... vouches for {after}")
    say("next", "start the aggregator again; devices follow with its first announcement")
