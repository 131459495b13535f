"""The verb `dashboard`."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.topics import Role
from deploy.command.options import OperatorSettings, watching
from deploy.dashboard.listening import DEFAULT, read_listening
from deploy.local.processes import end_as_by_ctrl_c
from deploy.viewing.feed import Feed
from host.errors import ConfigError
from host.logs import configure_logging


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(watching(Role.MONITOR)(dashboard))


def dashboard(
    operator: OperatorSettings,
    *,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve the page.")] = DEFAULT,
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate chain for TLS, as PEM.", show_default=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The certificate's key, as PEM.", show_default=False)
    ] = None,
    password_of_page: Annotated[
        Path | None,
        typer.Option(
            "--login-file",
            help="File with the page's password; else one is made at the first start, and shown once.",
            show_default=False,
        ),
    ] = None,
    new_password: Annotated[
        bool, typer.Option(help="Make and show a new password; ends all logins.")
    ] = False,
    login: Annotated[
        bool, typer.Option(help="Ask for the password; without, on this machine alone, any user of it looks.")
    ] = True,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the password's digest and the cookies' key; else ~/.local/state/midge/dashboard.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the federation in a browser: rounds, devices, metrics, events; it only reads."""
    _check_installed()
    from deploy.dashboard import door as doors  # noqa: PLC0415  needs what the page needs
    from deploy.dashboard.serve import serve  # noqa: PLC0415

    configure_logging("warning", os.environ)
    end_as_by_ctrl_c()
    listening = read_listening(listen, certificate, key, login=login)
    door = None
    if login:
        folder = state or _state_folder()
        doors.open_folder(folder)
        if password_of_page is not None:
            digest, made = doors.read_password(password_of_page), None
        else:
            digest, made = doors.kept_password(folder, renew=new_password)
        door = doors.Door(digest, doors.kept_secret(folder))
        if made is not None:
            _say(f"the page's password, shown only now: {made}")
    if not listening.is_loopback and certificate is None:
        _say("warning: without --certificate and --key, others on the network can read password and page")
    feed = Feed(operator.broker, demo=operator.demo)
    serve(feed, listening, door, lambda url: _say(f"dashboard: {url} (Ctrl-C ends it)"))


def _say(text: str) -> None:
    print(f"midge: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _state_folder() -> Path:
    """Where systemd wants it, or else the user.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "midge" / "dashboard"


def _check_installed() -> None:
    if importlib.util.find_spec("nicegui") is None:
        raise ConfigError("the dashboard needs nicegui: pip install 'midge[operator,dashboard]'")
