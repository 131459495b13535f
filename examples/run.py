"""Run an example on this machine: `python -m examples.run NAME --data DIR`."""

import importlib
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from deploy.command.app import EXITS
from deploy.local.processes import end_as_by_ctrl_c
from deploy.local.screen import Screen
from deploy.report.making import make_report
from examples.harness import ROOT, Example, Order, Result, write_reached
from host.errors import MidgeError

NAMES = sorted(path.parent.name for path in ROOT.glob("*/example.py"))


def run(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.", show_default=False)],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The example's data; its README says what.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="All chance follows from it.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many seeds, from this one on.")] = 1,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Other than the example's.", show_default=False)
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep models, settings, logs and results here.", show_default=False),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put figures and pictures into its README.")] = False,
) -> None:
    """Run an example with a broker, an aggregator and agents as processes, and say what came out."""
    if name not in NAMES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(NAMES)}", param_hint="NAME")
    example = cast("Example", importlib.import_module(f"examples.{name}.example").EXAMPLE)
    screen = Screen(Console())
    with ExitStack() as kept:
        folder = keep or Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="midge-example-")))
        results = []
        for number in range(seed, seed + seeds):
            screen.say(f"== {name}, seed {number}")
            order = Order(data, number, folder / f"seed-{number}", rounds)
            results.append(example.play(order, screen))
            screen.clear()
            if keep is not None:
                _report(order.folder / "aggregator", screen)
        _tell(example, results, folder, screen)
        if write:
            write_reached(ROOT / name / "README.md", example.report(results, ROOT / name))


def _report(aggregator: Path, screen: Screen) -> None:
    for run in sorted((aggregator / "runs").iterdir()):
        for path in make_report(aggregator, run.name, run / "report.html"):
            screen.say(f"report: {path}")


def _tell(example: Example, results: list[Result], folder: Path, screen: Screen) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    screen.say("")
    screen.say(example.report(results, folder))


def main() -> None:
    """Do what the command line says; an error is one line and an exit status."""
    end_as_by_ctrl_c()
    try:
        typer.run(run)
    except MidgeError as error:
        sys.stderr.write(f"examples: {error}\n")
        raise SystemExit(next(code for kind, code in EXITS if isinstance(error, kind))) from None


if __name__ == "__main__":
    main()
