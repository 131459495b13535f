"""`midge registrar`: the service that certifies devices."""

import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from host.logs import LogFormat, configure_logging
from host.notify import Notifier
from host.settings import load_settings


class Level(StrEnum):
    """How much the log is to have."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def registrar(
    config: Annotated[Path, typer.Option(help="The settings, registrar.toml.")],
    log_level: Annotated[Level, typer.Option(help="The least that the log is to have.")] = Level.INFO,
    log_format: Annotated[LogFormat | None, typer.Option(help="As in the settings.")] = None,
) -> None:
    """Answer devices that enrol with a token or renew their certificate, until it is stopped."""
    # What signs is loaded by this verb alone.
    from deploy.registrar.service import Service  # noqa: PLC0415
    from deploy.registrar.settings import RegistrarSettings  # noqa: PLC0415

    given = {} if log_format is None else {"log_format": log_format}
    configure_logging(log_level, os.environ, **given, service="registrar")
    settings = load_settings(RegistrarSettings, config, given, os.environ)
    federation = settings.broker.federation
    configure_logging(log_level, os.environ, settings.log_format, service="registrar", federation=federation)
    service = Service(settings, Notifier(os.environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: service.stop(signal.Signals(got).name))
    raise typer.Exit(service.run())


def add_to(app: typer.Typer) -> None:
    """Give the verb to the command."""
    app.command()(registrar)
