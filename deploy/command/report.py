"""The verbs about trainings that were, or are: report, compare."""

from pathlib import Path
from typing import Annotated

import typer

from aggregator.settings import AggregatorSettings
from deploy.report.making import make_report
from host.errors import ConfigError
from host.settings import load_settings

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="The aggregator's folder, with its ledger.", show_default=False),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Or aggregator.toml, which names it.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command()(report)


def report(
    run: Annotated[str, typer.Argument(help="A run's id, as midge runs lists them.", show_default=False)],
    *,
    folder: FolderOption = None,
    config: ConfigOption = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The page to write.")
    ] = Path("report.html"),
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write each picture as a PNG file here.", show_default=False),
    ] = None,
) -> None:
    """Tell all about one training in one HTML file, also while it goes on."""
    aggregator = aggregator_folder(folder, config)
    for path in make_report(aggregator, run, output, pictures):
        typer.echo(path)


def aggregator_folder(folder: Path | None, config: Path | None) -> Path:
    """Where the ledger lies; raises ConfigError."""
    if (folder is None) == (config is None):
        raise ConfigError("which aggregator? give --folder DIR, or --config FILE (its aggregator.toml)")
    return folder or load_settings(AggregatorSettings, config, {}, {}).folder
