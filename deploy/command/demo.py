"""The verb `demo`."""

import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker.mosquitto import find_mosquitto
from deploy.demo.conduct import Plan, conduct
from deploy.demo.folder import DemoFolder
from deploy.demo.lessons import digits, mnist
from deploy.local.processes import end_as_by_ctrl_c
from deploy.local.screen import Screen
from host.errors import ConfigError

NEEDED = ("tensorflow", "sklearn", "matplotlib")
INTERRUPTED = 130
REPORT = "report.html"
MAX_DEVICES = 26


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command()(demo)


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the four IDX files of MNIST; else scikit-learn's 8x8 digits are used."
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="How many devices.")] = 3,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="How many rounds; else 20, with MNIST 3.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Of shares, weights and batches.")] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep report, model, pictures, settings and logs in this new folder.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; all else goes to stderr.")
    ] = False,
) -> None:
    """Three devices that each lack some digits train one model that knows all, on this machine.

    A Mosquitto, an aggregator and the devices are started as processes of their own, and stopped again.
    """
    _check_installed()
    lesson = digits() if data is None else mnist(data)
    plan = Plan(lesson, devices, rounds or lesson.rounds, seed)
    screen = Screen(Console(stderr=as_json))
    end_as_by_ctrl_c()
    with _folder(keep) as folder:
        try:
            outcome = conduct(plan, folder, screen)
        except KeyboardInterrupt:
            screen.say("stopped; nothing is left running")
            raise typer.Exit(INTERRUPTED) from None
        screen.say("")
        screen.show(outcome.table())
        if keep is not None:
            from deploy.report.making import make_report  # noqa: PLC0415  loads much

            make_report(folder.aggregator, outcome.run, outcome.model.with_name(REPORT))
        screen.say(_epilogue(folder, outcome.model, outcome.seconds, kept=keep is not None))
        if as_json:
            typer.echo(json.dumps(outcome.document()))


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[DemoFolder]:
    if keep is not None:
        yield DemoFolder(keep)
    else:
        with tempfile.TemporaryDirectory(prefix="midge-demo-") as folder:
            yield DemoFolder(Path(folder))


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the demo needs {', '.join(missing)}: pip install 'midge[demo]'")
    find_mosquitto()


def _epilogue(folder: DemoFolder, model: Path, seconds: float, *, kept: bool) -> str:
    took = f"It took {seconds:.0f} s; no example left its device."
    if not kept:
        return (
            f"{took}\nThe model is gone; --keep DIR keeps it, with a report, its curves, settings and logs."
        )
    pictures = f"{model.with_name('curves.png')}, {model.with_name('confusion.png')}"
    return (
        f"{took}\nreport:   {model.with_name(REPORT)}\nmodel:    {model}\npictures: {pictures}\n"
        f"settings and logs: {folder.root}"
    )
