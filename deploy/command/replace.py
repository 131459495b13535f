"""The verb `replace`: another device under the id of one that broke."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.command.devices import operator_broker
from deploy.command.homes import HomeOption
from deploy.command.revoke import WATCH_S, BrokerConfigOption, NoBrokerOption, own_broker, say
from deploy.home.home import Home
from deploy.trust.handing import withdraw
from deploy.trust.replacement import admit, check_bundle, renew_bundle
from deploy.trust.revocation import Revocation
from host.errors import MidgeError


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(replace)


def replace(
    device: Annotated[str, typer.Argument(metavar="ID", help="The device's id.", show_default=False)],
    *,
    home: HomeOption = Path(),
    broker_config: BrokerConfigOption = None,
    no_broker: NoBrokerOption = False,
) -> None:
    """Revoke what a device has, and give its bundle a new key and certificate; its settings stay.

    The old device is cut off as by midge revoke. The aggregator hears the new one, also if the old one was
    excluded, and knows it by the key that it signs with first.
    """
    opened = Home.open(home)
    check_bundle(opened, device)
    own = None if no_broker else own_broker(opened, broker_config)
    authority, operator = opened.authority(), operator_broker(opened)
    withdraw(opened, own.file if own else None, device, say)
    code = Revocation(authority, own, operator, say).revoke(device, "replaced", WATCH_S, exclude=False)
    say("bundle", str(renew_bundle(opened, authority, device)))
    try:
        say("aggregator", admit(operator, device))
    except MidgeError as error:
        say("aggregator", f"was not told: {error}; when it runs: midge admit {device}")
    if code:
        raise typer.Exit(code)
