"""The verb `export`: a task as files that a device can try, without any broker."""

import importlib.util
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aggregator.evaluator import MODULE
from aggregator.requests import PROGRAM_FILE, THETA_FILE, ExportRequest
from aggregator.run_settings import RunSettings, read_run_settings
from aggregator.settings import AggregatorSettings
from deploy.command.results import quieten_tensorflow
from host.children import ask_once
from host.errors import ConfigError
from host.settings import load_settings

# Large models take minutes to convert and to compare, on a small machine.
EXPORT_TIMEOUT_S = 1800.0
FOR = {
    PROGRAM_FILE: "trains; devices download it once",
    THETA_FILE: "the first weights, float32",
    "model.tflite": "infers, with these weights",
    "labels.txt": "a line for each output of it",
}


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(export)


def export(
    task: Annotated[
        str,
        typer.Argument(help="A task's Python file; with --config, a task's name.", show_default=False),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="The folder to write.", show_default=False),
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="aggregator.toml that has the task, its batch_size and its seed."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_536, help="Examples in a local step; else as a run's.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the first weights; else as a run's.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty, over earlier files.")
    ] = False,
) -> None:
    """Write a task's training program for LiteRT, its first weights, and a .tflite to infer with.

    All is compared with Keras before it is written. `midge-agent try` trains it on a device.
    """
    file, settings = _find(task, config)
    _check_folder(output, force=force)
    _check_installed()
    quieten_tensorflow()
    examples = batch or settings.batch_size
    request = ExportRequest(
        task=file.absolute(),
        folder=output.absolute(),
        seed=settings.seed if seed is None else seed,
        batch_size=examples,
    )
    answer = ask_once(MODULE, request.to_json(), EXPORT_TIMEOUT_S)
    if answer["event"] == "failed":
        raise ConfigError(str(answer["detail"]))
    _show(answer, output, examples)


def _find(task: str, config: Path | None) -> tuple[Path, RunSettings]:
    """The task's file, and the settings of its runs; raises ConfigError."""
    if config is None:
        return Path(task), RunSettings()
    tasks = load_settings(AggregatorSettings, config, {}, os.environ).tasks
    if task not in tasks:
        named = ", ".join(sorted(tasks)) or "none"
        raise ConfigError(f"{config}: no task {task!r}; it has {named}")
    return tasks[task].file, read_run_settings(tasks[task].settings)


def _check_folder(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder, or write into this one by --force")


def _check_installed() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise ConfigError("to export takes TensorFlow: pip install 'midge[aggregator]'")


def _show(answer: Mapping[str, Any], folder: Path, batch: int) -> None:
    files = Table(box=None, pad_edge=False)
    for heading, justify in (("file", "left"), ("bytes", "right"), ("what it is", "left")):
        files.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, size in answer["files"].items():
        files.add_row(name, f"{size:,}", FOR[name])
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, text in _facts(answer, batch).items():
        facts.add_row(name, text)
    Console(highlight=False).print(files, "", facts, sep="\n")
    program, theta = (shlex.quote(str(folder / name)) for name in (PROGRAM_FILE, THETA_FILE))
    typer.echo(
        "\nTry it on a device, with nothing but the base install and these files:\n"
        f"  midge-agent try {program} DATA --theta {theta}"
    )


def _facts(answer: Mapping[str, Any], batch: int) -> dict[str, str]:
    optimizer, operators, travels = answer["optimizer"], answer["operators"], answer["files"][PROGRAM_FILE]
    return {
        "parameters": f"{answer['trainable']:,} trained, {answer['state']:,} other",
        "optimizer": f"{optimizer['name']}, with a state of float32[{optimizer['size']}]",
        "batch": f"{batch} examples",
        "takes": answer["takes"],
        "gives": f"{answer['gives']}; metrics {', '.join(answer['metrics'])}",
        "to train": f"{answer['tflite_bytes']:,} bytes of LiteRT, which travel as {travels:,}; "
        f"{_counted(operators['training'])}",
        "to infer": _counted(operators["inference"]),
    }


def _counted(operators: Mapping[str, int]) -> str:
    """How many there are, then each kind with its count."""
    kinds = ", ".join(f"{name} {count}" for name, count in operators.items())
    return f"{sum(operators.values())} operators: {kinds}"
