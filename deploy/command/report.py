"""The verbs about trainings that were, or are: report, compare."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from host.errors import ConfigError
from host.settings import load_settings

if TYPE_CHECKING:
    from aggregator.stopping import StopRule

MIN_COMPARED, MAX_COMPARED = 2, 8

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="DIR", help="The aggregator's folder, with its ledger.", show_default=False
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Or aggregator.toml, which names it.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command()(report)
    app.command()(compare)


def report(
    run: Annotated[str, typer.Argument(help="A run's id, as midge runs lists them.", show_default=False)],
    *,
    folder: FolderOption = None,
    config: ConfigOption = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write each picture as a PNG file here.", show_default=False),
    ] = None,
) -> None:
    """Tell all about one training in one HTML file, also while it goes on."""
    from deploy.report.making import make_report  # noqa: PLC0415  loads numpy

    aggregator = aggregator_folder(folder, config)
    for path in make_report(aggregator, run, output, pictures):
        typer.echo(path)


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="From 2 to 8 runs.", show_default=False)
    ],
    *,
    folder: FolderOption = None,
    config: ConfigOption = None,
    reach: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=VALUE", help="Also what it took to get there: accuracy=0.9.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Draw the curves into this file (.png, .svg)."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write a line a round and run.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """Put runs side by side: settings that differ, metrics, and what they took."""
    if len(set(runs)) != len(runs) or not MIN_COMPARED <= len(runs) <= MAX_COMPARED:
        raise ConfigError(
            f"name from {MIN_COMPARED} to {MAX_COMPARED} different runs, not {len(runs)}: {runs}"
        )
    from deploy.report import comparing, making, showing  # noqa: PLC0415  loads numpy

    rule = _goal(reach)
    found = making.read_compared(aggregator_folder(folder, config), runs)
    if rule is not None:
        comparing.check_measured(found, rule)
    if picture is not None:
        showing.plot(found, rule, picture)
    if table is not None:
        showing.write_csv(found, table)
    if as_json:
        typer.echo(json.dumps(comparing.document(found, rule)))
    else:
        Console().print(showing.tables(found, rule))


def _goal(text: str | None) -> "StopRule | None":
    from deploy.report.measures import read_goal  # noqa: PLC0415

    try:
        return None if text is None else read_goal(text)
    except ValueError as error:
        raise ConfigError(f"--reach {text}: {error}") from None


def aggregator_folder(folder: Path | None, config: Path | None) -> Path:
    """Where the ledger lies; raises ConfigError."""
    if (folder is None) == (config is None):
        raise ConfigError("which aggregator? give --folder DIR, or --config FILE (its aggregator.toml)")
    from aggregator.settings import AggregatorSettings  # noqa: PLC0415

    return folder or load_settings(AggregatorSettings, config, {}, {}).folder
