"""The verb `revoke`: a device that is trusted no more."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.command.devices import operator_broker
from deploy.command.homes import HomeOption
from deploy.home.home import Home
from deploy.trust.brokerfile import LOOPBACK, BrokerFile
from deploy.trust.handing import withdraw
from deploy.trust.revocation import OwnBroker, Revocation

WATCH_S = 3.0

BrokerConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--broker-config",
        metavar="FILE",
        help="The broker's mosquitto.conf, if it is not the home's.",
        show_default=False,
    ),
]
NoBrokerOption = Annotated[
    bool, typer.Option("--no-broker", help="The broker is not ours: tell the register and the aggregator.")
]


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(revoke)


def revoke(
    device: Annotated[str, typer.Argument(metavar="ID", help="The device's id.", show_default=False)],
    *,
    home: HomeOption = Path(),
    reason: Annotated[str, typer.Option(help="Why; the aggregator's ledger keeps it.")] = "",
    broker_config: BrokerConfigOption = None,
    no_broker: NoBrokerOption = False,
    watch: Annotated[
        float, typer.Option(min=0, max=600, metavar="S", help="How long to look whether it comes back.")
    ] = WATCH_S,
) -> None:
    """Revoke a device: it is cut off within seconds and cannot return. On the broker's machine.

    Each step says what it did and saw. The exit status is not 0 when one could not be done, or the device is
    still let in; run it again then, nothing is done twice.
    """
    opened = Home.open(home)
    own = None if no_broker else own_broker(opened, broker_config)
    authority = opened.authority()
    # Before the certificates: no other one can follow by token then.
    withdrawn = withdraw(opened, own.file if own else None, device, say)
    if withdrawn and not authority.register.of(device):
        say("register", f"{device} never had a certificate")
        return
    if code := Revocation(authority, own, operator_broker(opened), say).revoke(device, reason, watch):
        raise typer.Exit(code)


def own_broker(home: Home, config: Path | None) -> OwnBroker:
    """The broker whose files the home, or whoever runs this, has; raises ConfigError."""
    file = BrokerFile.read(config or home.broker / "mosquitto.conf")
    return OwnBroker(file, f"mqtts://{LOOPBACK}:{file.device_listener().port}")


def say(step: str, text: str) -> None:
    """Show a step, and what came of it."""
    typer.echo(f"{step + ':':<13}{text}")
