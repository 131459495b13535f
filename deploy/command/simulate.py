"""The verb that tries a fleet's settings out before there is a fleet: simulate."""

import json
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aggregator.run_settings import read_run_settings
from deploy.command.simulate_task import or_trains
from deploy.simulator.outcome import Outcome, look_at
from deploy.simulator.scenario import Troubles, fleet
from deploy.simulator.world import World

MAX_DEVICES = 4096


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command("simulate")(or_trains(simulate))


def simulate(  # noqa: PLR0913 - each is an option
    *,
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="In the fleet.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="To complete.")] = 20,
    dropout: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Part of trainings that end with the device's power.")
    ] = 0.1,
    target: Annotated[
        int | None, typer.Option(min=1, help="Updates that close a round; else from half of the devices.")
    ] = None,
    over_selection: Annotated[float, typer.Option(help="Devices invited for each update aimed for.")] = 1.3,
    quorum: Annotated[int | None, typer.Option(help="Fewest updates; else half of the target.")] = None,
    deadline_s: Annotated[float, typer.Option(help="Time for training and upload.")] = 600.0,
    training_s: Annotated[float, typer.Option(min=0.1, help="Training of a middling device.")] = 60.0,
    parameters: Annotated[int, typer.Option(min=1, help="Of the model, 4 bytes each.")] = 100_000,
    uploads_at_a_time: Annotated[
        int, typer.Option(min=1, max=256, help="As in the aggregator's settings.")
    ] = 4,
    sites: Annotated[int, typer.Option(min=1, help="Places at which the devices stand.")] = 1,
    site_outage_s: Annotated[
        float, typer.Option(min=0.0, help="Mean time between failures of a whole site; 0: none.")
    ] = 0.0,
    broker_restart_s: Annotated[
        float, typer.Option(min=0.0, help="Mean time between restarts of the broker; 0: none.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="All chance follows from it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Run rounds on a simulated fleet: real coordinator and agents, no network, clock or training."""
    settings = read_run_settings(
        {
            name: value
            for name, value in {
                "rounds": rounds,
                "seed": seed,
                "target": target or max(1, devices // 2),
                "over_selection": over_selection,
                "quorum": quorum,
                "deadline_s": deadline_s,
                "federated_evaluation": False,
                "abandoned_limit": 1000,
            }.items()
            if value is not None
        }
    )
    troubles = Troubles(
        jitter_s=0.05,
        lost=0.01,
        dropout=dropout,
        site_away_s=site_outage_s,
        broker_restarts_s=broker_restart_s,
    )
    scenario = fleet(devices, settings, troubles, training_s=training_s, parameters=parameters, sites=sites)
    world = World(replace(scenario, uploads_at_a_time=uploads_at_a_time), traced=False)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rounds", total=rounds)
        world.run_in_trouble(lambda: progress.update(task, completed=world.completed))
    outcome = look_at(world)
    if as_json:
        typer.echo(json.dumps(asdict(outcome)))
    else:
        Console().print(_table(outcome))


def _table(outcome: Outcome) -> Table:
    table = Table(show_header=False)
    rows: tuple[tuple[str, str], ...] = (
        ("rounds opened", f"{outcome.rounds}"),
        ("reached their quorum", _share(outcome.quorum, outcome.rounds)),
        ("reached their target", _share(outcome.target, outcome.rounds)),
        ("time of a round, median", f"{outcome.median_s:,.1f} s"),
        ("time of a round, 95 % within", f"{outcome.p95_s:,.1f} s"),
        ("simulated time", f"{outcome.simulated_s / 3600:,.1f} h"),
        ("into the broker", f"{outcome.bytes_in / 1e6:,.1f} MB"),
        ("out of the broker", f"{outcome.bytes_out / 1e6:,.1f} MB"),
        ("training on devices", f"{outcome.trained_s / 3600:,.1f} h"),
        ("of it for nothing", _share(outcome.wasted_s, outcome.trained_s)),
    )
    for name, value in rows:
        table.add_row(name, value)
    return table


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "-"
