"""`midge simulate --task`: the other half of the verb, which trains a task for real, without a broker."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aggregator.run_settings import RunSettings, read_run_settings
from aggregator.stopping import StopRule
from broker.control import SettingValue
from deploy.command.remote import parse_changes
from deploy.command.results import quieten_tensorflow
from deploy.local.processes import end_as_by_ctrl_c
from deploy.simulator.training.comparison import Comparison, Plan, compare
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.report import document, plot, table, write_csv
from deploy.simulator.training.shares import Source
from host.errors import ConfigError
from host.settings import load_settings

PANEL = "With --task: train for real"
MAX_SEEDS = 100
MAX_COMPARED = 20
MAX_PROCESSES = 256
# Options of the fleet's that have a meaning here too; without --task there is no other.
SHARED = frozenset({"devices", "rounds", "dropout", "seed", "as_json", "plot"})


def _option(kind: Any, *flags: str, default: Any = None, **about: Any) -> inspect.Parameter:  # noqa: ANN401  as typer has them
    name = flags[0].removeprefix("--").replace("-", "_")
    option = typer.Option(*flags, rich_help_panel=PANEL, show_default=default is not None, **about)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


OPTIONS = (
    _option(
        Path | None,
        "--task",
        metavar="FILE",
        help="A task's Python file. --rounds is then as the settings say, --dropout 0, unless given.",
    ),
    _option(
        Path | None,
        "--data",
        metavar="PATH",
        help="All devices' examples: .npz, .csv, IDX files, folder of images; or a .toml with a table data.",
    ),
    _option(
        str | None, "--target-column", metavar="NAME", help="Of a .csv: the label; else the last column."
    ),
    _option(
        str,
        "--partition",
        default="iid",
        metavar="HOW",
        help="Who gets what: iid, dirichlet:ALPHA, labels:K or column:NAME.",
    ),
    _option(
        list[Path] | None,
        "--compare",
        metavar="FILE...",
        help="Settings files of runs (.toml), one row of the table each.",
    ),
    _option(
        list[str] | None,
        "--set",
        metavar="NAME=VALUE",
        help="A setting of every run, e.g. rounds=20; repeatable.",
    ),
    _option(int, "--seeds", default=1, min=1, max=MAX_SEEDS, help="Runs of each, from --seed on."),
    _option(str | None, "--reach", metavar="RULE", help="Count rounds to it, such as 'accuracy >= 0.9'."),
    _option(int | None, "--processes", min=1, max=MAX_PROCESSES, help="That train; else one a processor."),
    _option(Path | None, "--csv", metavar="FILE", help="Write a row for each round of each run."),
    _option(Path | None, "--plot", metavar="FILE", help="Draw the metrics by round into a .png."),
)
FILES = inspect.Parameter(
    "files",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More of --compare.")],
)
CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def or_trains(simulate: Callable[..., None]) -> Callable[..., None]:
    """Give the verb the options that train a task; with --task it does that, and nothing of the fleet's."""
    own = inspect.signature(simulate).parameters
    added = [option for option in OPTIONS if option.name not in own]
    names = {option.name for option in OPTIONS} | {FILES.name}

    @functools.wraps(simulate)
    def either(context: typer.Context, **given: Any) -> None:  # noqa: ANN401  typer's values
        chosen = {name for name in given if _is_given(context, name)}
        trains = given["task"] is not None
        foreign = chosen - names - SHARED if trains else chosen & names - own.keys()
        if foreign:
            flags = ", ".join(sorted(_flag(context, name) for name in foreign))
            raise ConfigError(f"{flags}: {'not with' if trains else 'only with'} --task")
        if trains:
            simulate_task(given, chosen)
        else:
            simulate(**{name: given[name] for name in own})

    parameters = [CONTEXT, FILES, *own.values(), *added]
    either.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Typer would read them beside the signature.
    either.__annotations__ = {}
    return either


def simulate_task(given: Mapping[str, Any], chosen: set[str]) -> None:
    """Train, with what the command line gave; `chosen` are the options that stand on it."""
    if given["data"] is None:
        raise ConfigError("--data: which examples do the devices have? Name a file or a folder")
    by_column = given["partition"].startswith("column:")
    plan = Plan(
        task=given["task"].absolute(),
        source=Source(given["data"], given["target_column"]),
        partition=Partition.parse(given["partition"]),
        devices=None if by_column and "devices" not in chosen else given["devices"],
        settings=_settings(given, chosen),
        seeds=given["seeds"],
        dropout=given["dropout"] if "dropout" in chosen else 0.0,
        processes=given["processes"] or os.cpu_count() or 1,
    )
    rule = _rule(given["reach"], plan.settings.values())
    _check_writable(given["csv"], given["plot"])
    quieten_tensorflow()
    # Files and processes go away with us.
    end_as_by_ctrl_c()
    found = _watched(plan)
    if given["csv"] is not None:
        write_csv(found, given["csv"])
    if given["plot"] is not None:
        plot(found, rule, given["plot"])
    if given["as_json"]:
        typer.echo(json.dumps(document(found, rule), allow_nan=False))
    else:
        Console().print(table(found, rule))


def _watched(plan: Plan) -> Comparison:
    """Compare with a progress bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {
            name: progress.add_task(name, total=settings.rounds * plan.seeds)
            for name, settings in plan.settings.items()
        }

        def tell(name: str, done: float) -> None:
            progress.update(tasks[name], completed=done)

        return compare(plan, tell)


def _settings(given: Mapping[str, Any], chosen: set[str]) -> dict[str, RunSettings]:
    """The settings of each file, under what stands on the command line; raises ConfigError."""
    files = [*(given["compare"] or ()), *(given["files"] or ())]
    if len(files) > MAX_COMPARED:
        raise ConfigError(f"--compare: {len(files)} files, at most {MAX_COMPARED}")
    above: dict[str, SettingValue] = {name: given[name] for name in ("rounds", "seed") if name in chosen}
    above.update(parse_changes(given["set"] or []))
    found = {file.stem: load_settings(RunSettings, file, above, {}) for file in files}
    if len(found) < len(files):
        raise ConfigError("--compare: the table names settings by their files, so give these different names")
    return found or {given["task"].stem: read_run_settings(above)}


def _rule(text: str | None, settings: Collection[RunSettings]) -> StopRule | None:
    """What --reach says; without it, the rule by which all runs end."""
    if text is None:
        rules = {one.stop_when for one in settings}
        text = rules.pop() if len(rules) == 1 else None
    try:
        return None if text is None else StopRule.parse(text)
    except ValueError as error:
        raise ConfigError(f"--reach {text}: {error}") from None


def _check_writable(table: Path | None, picture: Path | None) -> None:
    """Before hours of training, not after."""
    for path in filter(None, (table, picture)):
        if not path.parent.is_dir() or path.is_dir():
            raise ConfigError(f"{path}: cannot be written: give a file in a folder that is there")
    if picture is not None and find_spec("matplotlib") is None:
        raise ConfigError("--plot takes matplotlib: pip install 'midge[demo]'")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(context: typer.Context, name: str) -> str:
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    return "FILE" if name == FILES.name else flags[name]
