"""The verb `enroll`: bundles for devices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from deploy.command.homes import HomeOption
from deploy.home.batch import numbered, read_batch
from deploy.home.bundle import AGENT, DATA, agent_settings, check_new, enrol
from deploy.home.home import Home
from host.errors import ConfigError

Chosen = Mapping[str, object]


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(enroll)


def enroll(
    device: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The device's id.", show_default=False)
    ] = None,
    *,
    home: HomeOption = Path(),
    count: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Enrol so many devices.", show_default=False)
    ] = None,
    prefix_id: Annotated[str, typer.Option(help="With --count: what their ids begin with.")] = "pi-",
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Enrol the devices of a CSV file: columns id, tags (words), any settings (data.path).",
            show_default=False,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A word to select devices by.", show_default=False)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of agent.toml.", show_default=False),
    ] = None,
) -> None:
    """Make a bundle for each device: agent.toml, key, certificate, and the authority's certificate.

    A bundle is what the agent is installed with, and what is in it is secret. None is ever overwritten.
    """
    opened = Home.open(home)
    common = _settings(setting or [], tag or [])
    wanted = [
        agent_settings(opened, name, {**common, **own})
        for name, own in _devices(opened, device, count, prefix_id, csv).items()
    ]
    for settings in wanted:
        check_new(opened, settings.device)
    authority = opened.authority()
    for settings in wanted:
        bundle = enrol(opened, authority, settings)
        typer.echo(f"{settings.device}: {bundle}")
    if any(settings.data.path == Path(DATA["data.path"]) for settings in wanted):
        typer.echo(f"Say where the examples lie: [data] in {AGENT}, or --set data.path=...", err=True)


def _devices(
    home: Home, device: str | None, count: int | None, prefix_id: str, csv: Path | None
) -> Mapping[str, Chosen]:
    given = [device is not None, count is not None, csv is not None]
    if sum(given) != 1:
        raise ConfigError("which devices? give one of: an id, --count with --prefix-id, or --csv")
    if device is not None:
        return {device: {}}
    if count is not None:
        return {name: {} for name in numbered(home, prefix_id, count)}
    assert csv is not None
    return read_batch(csv)


def _settings(pairs: list[str], tags: list[str]) -> Chosen:
    chosen: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: write it as KEY=VALUE")
        chosen[key.strip()] = value
    return {**chosen, **({"tags": tags} if tags else {})}
