"""The verb `monitor`."""

import importlib.util
import sys

import typer

from broker.topics import Role
from deploy.command.options import OperatorSettings, watching
from deploy.viewing.feed import Feed
from host.errors import ConfigError

TIMEOUT_S = 15.0


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(watching(Role.OPERATOR)(monitor))


def monitor(operator: OperatorSettings) -> None:
    """Watch federation, run, round and devices in this terminal; commands need the operator's account."""
    if importlib.util.find_spec("textual") is None:
        raise ConfigError("midge monitor needs textual: pip install 'midge[operator]'")
    if not sys.stdout.isatty():
        raise ConfigError("midge monitor needs a terminal: midge status or midge watch write lines")
    from deploy.monitor.app import Monitor  # noqa: PLC0415  loads Textual

    with Feed(operator.broker, demo=operator.demo) as feed:
        Monitor(feed, operator.broker, operator.timeout_s or TIMEOUT_S).run()
