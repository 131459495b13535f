"""The verbs that put services in place on machines: install, uninstall."""

import shlex
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.units.catalogue import SERVICES, Service
from deploy.units.given import from_home
from deploy.units.payload import Given, read_files, write_payload
from deploy.units.placing import Place, carry_out
from host.errors import ConfigError

Name = StrEnum("Name", list(SERVICES))  # type: ignore[misc]  # made of the table
Wanted = Annotated[Name, typer.Argument(help="What to put in place.", show_default=False)]
Host = Annotated[
    str | None, typer.Option(metavar="USER@MACHINE", help="Over ssh, there; else on this machine.")
]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="Write below this folder, and start nothing.")]
Ssh = Annotated[str, typer.Option(metavar="COMMAND", help="How to run ssh, with its options.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command()(install)
    app.command()(uninstall)


def install(
    service: Wanted,
    *,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of an agent: what midge enroll made for the device.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of the others: what midge init made.")
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Wheels to install from; else the package index.")
    ] = None,
    host: Host = None,
    root: Root = None,
    ssh: Ssh = "ssh",
    dry_run: DryRun = False,
) -> None:
    """Put a service in place under systemd on a Debian machine, or bring it up to date.

    Without --bundle or --home its settings in /etc/midge stay as they are. Doing it twice changes nothing.
    """
    chosen = SERVICES[service]
    given = _given(chosen, bundle, home, host)
    options = [*(["--offline"] if wheelhouse else []), *(["--dry-run"] if dry_run else [])]
    _carry_out(chosen, given, Place(host, root, _words(ssh)), "install", options, wheelhouse)


def uninstall(
    service: Wanted,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Its settings, keys and state, too.")] = False,
    host: Host = None,
    root: Root = None,
    ssh: Ssh = "ssh",
    dry_run: DryRun = False,
) -> None:
    """Stop a service and take it away; settings and state stay, unless --purge is given."""
    options = [*(["--purge"] if purge else []), *(["--dry-run"] if dry_run else [])]
    _carry_out(SERVICES[service], Given(), Place(host, root, _words(ssh)), "uninstall", options)


def _words(ssh: str) -> list[str]:
    try:
        words = shlex.split(ssh)
    except ValueError as error:
        raise ConfigError(f"--ssh {ssh}: {error}") from None
    if not words:
        raise ConfigError("--ssh: name a command, such as 'ssh -p 2222'")
    return words


def _carry_out(
    service: Service,
    given: Given,
    place: Place,
    verb: str,
    options: list[str],
    wheelhouse: Path | None = None,
) -> None:
    with tempfile.TemporaryDirectory(prefix="midge-") as folder:
        write_payload(service, Path(folder), given, wheelhouse)
        carry_out(Path(folder), place, verb, options)


def _given(service: Service, bundle: Path | None, home: Path | None, host: str | None) -> Given:
    if service.name == "agent":
        if home is not None:
            raise ConfigError("an agent has a bundle: --bundle HOME/devices/ID")
        return Given(read_files(bundle, "agent.toml")) if bundle else Given()
    if bundle is not None:
        raise ConfigError(f"--bundle is for an agent; the {service.name} takes --home")
    return from_home(service, home, host) if home else Given()
