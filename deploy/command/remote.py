"""The verbs that ask the aggregator for something: start, stop, pause, resume, runs, exclude, admit."""

import json
import math
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from broker.control import Reply, RunSummary, SettingValue, Verb
from deploy.command.control import ask, new_request
from deploy.command.options import OperatorSettings, connected
from host.errors import ConfigError, MidgeError

TIMEOUT_S = 15.0
# The answer comes when the task's model is built, and TensorFlow can take its time to load.
START_TIMEOUT_S = 180.0


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    for command in (start, stop, pause, resume, runs, exclude, admit):
        app.command()(connected(command))


def start(
    operator: OperatorSettings,
    task: Annotated[
        str, typer.Argument(help="A task that the aggregator's settings name.", show_default=False)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of this run, e.g. rounds=20; repeatable."
        ),
    ] = None,
) -> None:
    """Start a run of a task."""
    reply = _ask(operator, Verb.START, START_TIMEOUT_S, task=task, settings=parse_changes(changes or []))
    typer.echo(reply.text)


def stop(operator: OperatorSettings) -> None:
    """End the active run; its model stays."""
    typer.echo(_ask(operator, Verb.STOP).text)


def pause(operator: OperatorSettings) -> None:
    """Let devices finish what they train, and start nothing new."""
    typer.echo(_ask(operator, Verb.PAUSE).text)


def resume(operator: OperatorSettings) -> None:
    """Go on with a paused run."""
    typer.echo(_ask(operator, Verb.RESUME).text)


def runs(
    operator: OperatorSettings,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the runs, newest first."""
    found = _ask(operator, Verb.RUNS).runs
    if as_json:
        typer.echo(json.dumps([run.model_dump() for run in found], indent=1))
    elif found:
        Console().print(_table(found))
    else:
        typer.echo("no run yet: midge start TASK")


def exclude(
    operator: OperatorSettings,
    device: Annotated[str, typer.Argument(help="The device's id.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; the ledger keeps it.")] = "",
) -> None:
    """Have the aggregator hear nothing more of a device, on whatever broker; midge revoke does it, too."""
    typer.echo(_ask(operator, Verb.EXCLUDE, device=device, reason=reason).text)


def admit(
    operator: OperatorSettings,
    device: Annotated[str, typer.Argument(help="The device's id.", show_default=False)],
) -> None:
    """Have the aggregator hear an excluded device again, or one that was set up anew under its id.

    Where updates are sealed, it is known by the key that it signs with next.
    """
    typer.echo(_ask(operator, Verb.ADMIT, device=device).text)


def parse_changes(changes: list[str]) -> dict[str, SettingValue]:
    """Read NAME=VALUE: numbers and true or false as such, anything else as text; raises ConfigError."""
    settings: dict[str, SettingValue] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not (name and equals):
            raise ConfigError(f"--set {change}: write NAME=VALUE, e.g. --set rounds=20")
        settings[name] = _value(text)
    return settings


def _value(text: str) -> SettingValue:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return value if isinstance(value, str) else text


def _ask(
    operator: OperatorSettings,
    verb: Verb,
    timeout_s: float = TIMEOUT_S,
    **arguments: Any,  # noqa: ANN401  Request's fields
) -> Reply:
    reply = ask(operator.broker, new_request(verb, **arguments), operator.timeout_s or timeout_s)
    if not reply.ok:
        raise MidgeError(reply.text)
    return reply


def _table(found: tuple[RunSummary, ...]) -> Table:
    # A run's name begins with its task's. It is copied from here, so it has to stay whole.
    table = Table("run", "state", "rounds", "started", "metrics")
    for column in table.columns[:3]:
        column.no_wrap = True
    for run in found:
        started = datetime.fromtimestamp(run.started_unix_s).astimezone()
        table.add_row(
            run.run,
            run.state,
            f"{run.rounds_done}/{run.rounds}",
            f"{started:%Y-%m-%d %H:%M}",
            "\n".join(f"{name} {value:.4g}" for name, value in run.metrics.items()),
        )
    return table
