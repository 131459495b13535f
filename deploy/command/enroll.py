"""The verb `enroll`: bundles for devices."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from deploy.command.homes import HomeOption
from deploy.command.revoke import BrokerConfigOption
from deploy.home.batch import numbered, read_batch
from deploy.home.bundle import AGENT, DATA, agent_settings, check_new, enrol, enrol_by_token
from deploy.home.home import Home
from deploy.pki.authority import REGISTER
from deploy.pki.register import Register
from deploy.trust.brokerfile import BrokerFile
from deploy.trust.handing import hand_over_tokens
from edge_agent.pausing import read_duration
from edge_agent.settings import AgentSettings
from host.errors import ConfigError, MidgeError

Chosen = Mapping[str, object]


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(enroll)


def enroll(  # noqa: PLR0913 - each is an option
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
    token: Annotated[
        bool, typer.Option("--token", help="The device makes its own key, and the registrar certifies it.")
    ] = False,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="With --token: how long it is good for, such as 12h or 7d.")
    ] = "7d",
    broker_config: BrokerConfigOption = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of agent.toml.", show_default=False),
    ] = None,
) -> None:
    """Make a bundle for each device: agent.toml, key, certificate, and the authority's certificate.

    A bundle is what the agent is installed with, and what is in it is secret. None is ever overwritten. With
    --token it has no key and no certificate, but a token, with which the agent gets one when it starts; the
    broker is told, if it runs here.
    """
    lifetime_s = _lifetime_s(expires)
    opened = Home.open(home)
    common = _settings(setting or [], tag or [])
    wanted = [
        agent_settings(opened, name, {**common, **own}, by_token=token)
        for name, own in _devices(opened, device, count, prefix_id, csv).items()
    ]
    for settings in wanted:
        check_new(opened, settings.device)
    for settings, bundle in zip(wanted, _bundles(opened, wanted, lifetime_s if token else None), strict=True):
        typer.echo(f"{settings.device}: {bundle}")
    if token:
        _tell_broker(opened, broker_config)
    _remind_of_exclusion(opened, [settings.device for settings in wanted])
    if any(settings.data.path == Path(DATA["data.path"]) for settings in wanted):
        typer.echo(f"Say where the examples lie: [data] in {AGENT}, or --set data.path=...", err=True)


def _tell_broker(home: Home, config: Path | None) -> None:
    try:
        process = hand_over_tokens(home, BrokerFile.read(config or home.broker / "mosquitto.conf"))
    except MidgeError as error:
        typer.echo(f"The broker has yet to read the tokens' accounts (SIGHUP): {error}", err=True)
    else:
        typer.echo(f"The broker (process {process}) reads the tokens' accounts.")


def _remind_of_exclusion(home: Home, devices: Sequence[str]) -> None:
    register = Register(home.pki / REGISTER)
    for device in devices:
        if any(row.revoked_at is not None for row in register.of(device)):
            typer.echo(f"{device} was revoked before. When it is to be heard again: midge admit {device}")


def _bundles(home: Home, wanted: Sequence[AgentSettings], lifetime_s: float | None) -> Iterator[Path]:
    if lifetime_s is None:
        authority = home.authority()
        yield from (enrol(home, authority, settings) for settings in wanted)
    else:
        tokens = home.tokens()
        yield from (enrol_by_token(home, tokens, settings, lifetime_s) for settings in wanted)


def _lifetime_s(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError as error:
        raise ConfigError(f"--expires {text}: {error}") from None


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
