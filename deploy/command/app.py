"""All verbs of `midge`, and what its exit status says of an error."""

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from typer.models import CommandInfo, TyperInfo

from deploy.command import (
    dashboard,
    demo,
    devices,
    enroll,
    export,
    flash,
    foreign,
    init,
    install,
    monitor,
    registrar,
    remote,
    replace,
    report,
    results,
    revoke,
    rotate,
    simulate,
    status,
)
from deploy.command.control import CredentialsError, UnansweredError
from deploy.foreign.account import NoConnectionError, RefusedError
from host.errors import ConfigError, DataError, MidgeError
from host.exits import ExitCode
from host.logs import say

EXITS: tuple[tuple[type[MidgeError], ExitCode], ...] = (
    (ConfigError, ExitCode.BAD_CONFIG),
    (DataError, ExitCode.BAD_DATA),
    (UnansweredError, ExitCode.UNREACHABLE),
    (CredentialsError, ExitCode.REFUSED_CREDENTIALS),
    (RefusedError, ExitCode.REFUSED_CREDENTIALS),
    (NoConnectionError, ExitCode.UNREACHABLE),
    (MidgeError, ExitCode.FAILED),
)

# `midge --help` shows the verbs in the order of the work.
PANELS = {
    "Try it": ("demo", "export", "simulate"),
    "A federation": ("init", "install", "uninstall", "registrar", "rotate"),
    "Devices": ("enroll", "wheelhouse", "flash", "devices", "revoke", "replace", "exclude", "admit"),
    "Runs": ("start", "runs", "pause", "resume", "stop", "predict", "confusion"),
    "Watching": ("monitor", "status", "watch", "dashboard", "report", "compare"),
    "A broker that is not yours": ("acl", "doctor", "purge"),
}
VERBS = {verb: panel for panel, verbs in PANELS.items() for verb in verbs}

app = typer.Typer(
    name="midge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it
    if not wanted:
        return
    try:
        typer.echo(f"midge {version('midge')}")
    except PackageNotFoundError:
        typer.echo("midge, from a folder of sources")
    raise typer.Exit


@app.callback()
def _midge(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train one model across devices that keep their data, over topics on a Mosquitto broker."""


dashboard.add_to(app)
demo.add_to(app)
devices.add_to(app)
enroll.add_to(app)
export.add_to(app)
flash.add_to(app)
foreign.add_to(app)
init.add_to(app)
install.add_to(app)
monitor.add_to(app)
registrar.add_to(app)
remote.add_to(app)
replace.add_to(app)
report.add_to(app)
results.add_to(app)
revoke.add_to(app)
rotate.add_to(app)
simulate.add_to(app)
status.add_to(app)


def _verb(command: CommandInfo | TyperInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


app.registered_commands.sort(key=lambda command: list(VERBS).index(_verb(command)))
_registered: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
for _command in _registered:
    _command.rich_help_panel = VERBS[_verb(_command)]


def run() -> None:
    """Run the command line; an error is one line and an exit status."""
    try:
        app()
    except MidgeError as error:
        say(f"midge: {error}\n", logging.ERROR)
        sys.exit(next(code for kind, code in EXITS if isinstance(error, kind)))
    except OSError as error:
        # A folder of somebody else, a full disk; without a file it is a mistake of ours.
        if error.filename is None:
            raise
        typer.echo(f"midge: {error.filename}: {error.strerror}", err=True)
        sys.exit(ExitCode.FAILED)
