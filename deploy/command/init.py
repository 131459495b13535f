"""The verb `init`: a federation's home."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from deploy.home.create import complete, create, outdated
from deploy.home.home import FEDERATION, Home
from deploy.pki.issuer import ROOT_KEY


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.", show_default=False)],
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="How devices reach the broker: a host name or an address. May be given several times; "
            "devices use the first.",
            show_default=False,
        ),
    ] = None,
    federation: Annotated[
        str | None, typer.Option(help="The federation's name; else 'default'.", show_default=False)
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="First levels of every topic; else 'midge'.", show_default=False)
    ] = None,
) -> None:
    """Make a federation's home: certificate authority, broker, accounts, and all settings files.

    Run again, it makes what is missing, and changes nothing that is there.
    """
    options = {"hosts": host or None, "name": federation, "prefix": prefix}
    begun = (folder / FEDERATION).exists()
    home = create(folder, {key: value for key, value in options.items() if value is not None})
    made = [*([] if begun else [home.root / FEDERATION]), *complete(home)]
    for path in made:
        typer.echo(f"made {path.relative_to(home.root)}")
    for path in outdated(home):
        typer.echo(
            f"kept {path.relative_to(home.root)}, which is not as this version would write it", err=True
        )
    if not made:
        typer.echo(f"{home.root} has all that it needs")
    typer.echo(_next(home))


def _next(home: Home) -> str:
    root = shlex.quote(str(home.root))
    said = (
        "\nNext:\n"
        f"  mosquitto -c {root}/broker/mosquitto.conf\n"
        f"  midge-aggregator run --config {root}/aggregator/aggregator.toml\n"
        f"  midge enroll pi-1 --home {root}"
    )
    if (home.pki / ROOT_KEY).exists():
        said += (
            f"\n\nTake {root}/pki/{ROOT_KEY} away to where no network reaches: day by day nothing needs it."
        )
    return said
