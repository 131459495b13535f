"""How the remote verbs find the broker: the same options for each, also from environment or file."""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from pydantic import BaseModel, ConfigDict, Field

from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.control import UnansweredError
from deploy.command.homes import HOME_VARIABLE
from deploy.local.notice import await_newest
from host.errors import ConfigError
from host.settings import load_settings

# A newcomer starts both terminals at about the same time, and the demo first unpacks its data.
DEMO_WAIT_S = 60.0
PANEL = "Connection (also from the environment, as MIDGE_BROKER__URL, a file, or a federation's home)"
OPERATOR_FILE = "operator.toml"


class OperatorSettings(BaseModel):
    """What stands in operator.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    demo: ClassVar[bool] = False

    broker: BrokerSettings
    timeout_s: float | None = Field(
        default=None, gt=0, le=3600, description="how long to wait for an answer; None: as the verb needs"
    )


class DemoSettings(OperatorSettings):
    """Those of the fleet that `--demo` found on this machine."""

    demo: ClassVar[bool] = True


def _option(flag: str, kind: Any, text: str) -> inspect.Parameter:  # noqa: ANN401  a type
    return inspect.Parameter(
        flag.removeprefix("--").replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            kind | None, typer.Option(flag, help=text, rich_help_panel=PANEL, show_default=False)
        ],
    )


OPTIONS = {
    "broker.url": _option("--broker", str, "mqtt://, mqtts://, ws:// or wss://, then host[:port]."),
    "broker.username": _option("--username", str, "The operator's account."),
    "broker.password_file": _option("--password-file", Path, "File that holds its password."),
    "broker.ca_file": _option("--ca-file", Path, "Certificate authority of the broker; else the system's."),
    "broker.federation": _option("--federation", str, "The federation's name; else 'default'."),
    "broker.prefix": _option("--prefix", str, "First levels of every topic; else 'midge'."),
    "timeout_s": _option("--timeout", float, "Seconds to wait for an answer."),
    "config": _option("--config", Path, "Settings file with a table broker; else the home's operator.toml."),
}
DEMO = inspect.Parameter(
    "demo",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--demo", help="Watch the demo or example that runs here.", rich_help_panel=PANEL)
    ],
)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection's options; it gets them as its argument `operator`."""
    return _with_options(command, list(OPTIONS.values()), _settings)


def watching(role: Role) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that watches the same, and `--demo`: the fleet that runs here, by its account `role`."""

    def find(chosen: dict[str, Any]) -> OperatorSettings:
        if not chosen.pop("demo"):
            return _settings(chosen)
        given = [option for key, option in OPTIONS.items() if chosen[key] is not None and key != "timeout_s"]
        if given:
            raise ConfigError(f"--demo finds the broker by itself: leave out {_flag(given[0])}")
        return demo_settings(role, chosen["timeout_s"])

    return lambda command: _with_options(command, [DEMO, *OPTIONS.values()], find)


def demo_settings(role: Role, timeout_s: float | None = None) -> OperatorSettings:
    """How an account, monitor or operator, reaches the demo or example that runs on this machine.

    Waits for one a while, and says so; raises UnansweredError when none comes.
    """
    wait_s = DEMO_WAIT_S if timeout_s is None else timeout_s

    def say() -> None:
        typer.echo(
            f"no demo runs here yet: start it in another terminal (make demo); waiting {wait_s:g} s", err=True
        )

    notice = await_newest(wait_s, say)
    if notice is None:
        raise UnansweredError(
            "no demo runs here: start it in another terminal with make demo, or say which broker by --broker"
        )
    broker = notice.operator if role is Role.OPERATOR else notice.monitor
    return DemoSettings(broker=broker, timeout_s=timeout_s)


def _with_options(
    command: Callable[..., None],
    options: Sequence[inspect.Parameter],
    read: Callable[[dict[str, Any]], OperatorSettings],
) -> Callable[..., None]:
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "operator"]
    keys = {option.name: key for key, option in OPTIONS.items()}

    @functools.wraps(command)
    def with_options(**given: Any) -> None:  # noqa: ANN401  typer's values
        chosen = {keys.get(option.name, option.name): given.pop(option.name) for option in options}
        command(operator=read(chosen), **given)

    with_options.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    # Typer would read them beside the signature, and there `operator` still stands.
    with_options.__annotations__ = {}
    return with_options


def _settings(chosen: dict[str, Any]) -> OperatorSettings:
    config = chosen.pop("config")
    overrides = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in chosen.items()
        if value is not None
    }
    if config is None and "broker.url" not in overrides and "MIDGE_BROKER__URL" not in os.environ:
        config = _of_the_home()
    try:
        return load_settings(OperatorSettings, config, overrides, os.environ)
    except ConfigError as error:
        raise ConfigError(_in_terms_of_options(str(error))) from None


def _of_the_home() -> Path:
    """The operator's settings in the home that the other verbs would find."""
    file = Path(os.environ.get(HOME_VARIABLE, "")) / Role.OPERATOR / OPERATOR_FILE
    if not file.is_file():
        raise ConfigError(
            "which broker? give --broker mqtt://HOST or --config FILE, set MIDGE_BROKER__URL, "
            f"or set {HOME_VARIABLE} to the folder that midge init made"
        )
    return file


def _in_terms_of_options(text: str) -> str:
    """Name the option, not the key that it stands for."""
    for key, option in OPTIONS.items():
        text = text.replace(f"--set: {key}:", f"{_flag(option)}:")
    return text


def _flag(option: inspect.Parameter) -> str:
    return f"--{option.name.replace('_', '-')}"
