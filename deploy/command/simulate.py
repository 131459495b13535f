"""The verb that tries a fleet's settings out before there is a fleet: simulate."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aggregator.run_settings import RunSettings, read_run_settings
from broker.control import SettingValue
from deploy.command.simulate_task import or_trains
from deploy.results.plots import new_figure, save_figure
from deploy.simulator.outcome import Outcome, look_at, rounds_of
from deploy.simulator.plot import SIZE_INCHES, draw
from deploy.simulator.scenario import DAY_S, Scenario, Troubles, fleet
from deploy.simulator.world import World
from host.errors import ConfigError

MAX_DEVICES = 4096
USUAL = {"federated_evaluation": False, "abandoned_limit": 1000}

# -- the options -----------------------------------------------------------------------------------------

Devices = Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="In the fleet.")]
Rounds = Annotated[int, typer.Option(min=1, max=100_000, help="To complete.")]
Dropout = Annotated[
    float, typer.Option(min=0.0, max=0.95, help="Part of trainings that end with the device's power.")
]
Target = Annotated[
    int | None, typer.Option(min=1, help="Updates that close a round; else from half of the devices.")
]
OverSelection = Annotated[float, typer.Option(help="Devices invited for each update aimed for.")]
Quorum = Annotated[int | None, typer.Option(help="Fewest updates; else half of the target.")]
DeadlineS = Annotated[float, typer.Option(help="Time for training and upload.")]
StragglerFactor = Annotated[
    float | None,
    typer.Option(help="With the quorum, wait so many times the slowest update; else the deadline."),
]
Late = Annotated[str, typer.Option(help="Updates after their round: discard, or carry into the next one.")]
TrainingS = Annotated[float, typer.Option(min=0.1, help="Training of a middling device.")]
Parameters = Annotated[int, typer.Option(min=1, help="Of the model, 4 bytes each.")]
UploadsAtATime = Annotated[int, typer.Option(min=1, max=256, help="As in the aggregator's settings.")]
Sites = Annotated[int, typer.Option(min=1, help="Places at which the devices stand.")]
SiteOutageS = Annotated[float, typer.Option(min=0.0, help="Mean time between failures of a site; 0: none.")]
SiteDownS = Annotated[float, typer.Option(min=1.0, help="How long such a failure lasts; up to half more.")]
Awake = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="Part of each day with power; sites follow the sun.")
]
DayS = Annotated[float, typer.Option(min=60.0, help="Length of a day.")]
BrokerRestartS = Annotated[
    float, typer.Option(min=0.0, help="Mean time between restarts of the broker; 0: none.")
]
Seed = Annotated[int, typer.Option(min=0, help="All chance follows from it.")]
Plot = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, help="Draw it into this .png: who did what, rounds, updates; the metrics with --task."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]

# -- the verb --------------------------------------------------------------------------------------------


def add_to(app: typer.Typer) -> None:
    """Make this verb part of the command."""
    app.command("simulate")(or_trains(simulate))


def simulate(  # noqa: PLR0913 - each is an option
    *,
    devices: Devices = 100,
    rounds: Rounds = 20,
    dropout: Dropout = 0.1,
    target: Target = None,
    over_selection: OverSelection = 1.3,
    quorum: Quorum = None,
    deadline_s: DeadlineS = 600.0,
    straggler_factor: StragglerFactor = None,
    late: Late = "discard",
    training_s: TrainingS = 60.0,
    parameters: Parameters = 100_000,
    uploads_at_a_time: UploadsAtATime = 4,
    sites: Sites = 1,
    site_outage_s: SiteOutageS = 0.0,
    site_down_s: SiteDownS = 300.0,
    awake: Awake = 1.0,
    day_s: DayS = DAY_S,
    broker_restart_s: BrokerRestartS = 0.0,
    seed: Seed = 0,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Run rounds on a simulated fleet: real coordinator and agents, no network, clock or training.

    With --task, train for real instead, without a broker, to compare settings and strategies.
    """
    settings = _settings(
        rounds=rounds,
        seed=seed,
        target=target or max(1, devices // 2),
        over_selection=over_selection,
        quorum=quorum,
        deadline_s=deadline_s,
        straggler_factor=straggler_factor,
        late=late,
    )
    troubles = Troubles(
        jitter_s=0.05,
        lost=0.01,
        dropout=dropout,
        site_away_s=site_outage_s,
        site_down_s=(site_down_s, 1.5 * site_down_s),
        broker_restarts_s=broker_restart_s,
    )
    scenario = fleet(
        devices,
        settings,
        troubles,
        training_s=training_s,
        parameters=parameters,
        sites=sites,
        awake=awake,
        day_s=day_s,
    )
    world = _run(replace(scenario, uploads_at_a_time=uploads_at_a_time), plot)
    outcome = look_at(world)
    if as_json:
        typer.echo(json.dumps(asdict(outcome)))
    else:
        Console().print(_table(outcome))


def _settings(**values: SettingValue | None) -> RunSettings:
    return read_run_settings(USUAL | {name: value for name, value in values.items() if value is not None})


def _run(scenario: Scenario, plot: Path | None) -> World:
    """Go through all rounds, and draw them."""
    if plot is not None and not plot.parent.is_dir():
        raise ConfigError(f"{plot}: {plot.parent} is no folder; create it, or draw elsewhere")
    picture = None if plot is None else new_figure(*SIZE_INCHES)
    world, rounds = World(scenario, traced=False), scenario.settings.rounds
    timeline = world.watch() if picture is not None else None
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rounds", total=rounds)
        world.run_in_trouble(lambda: progress.update(task, completed=world.completed))
    if plot is not None and picture is not None and timeline is not None:
        site_by_site = sorted(world.devices, key=lambda name: world.devices[name].about.site)
        draw(picture, timeline, site_by_site, rounds_of(world))
        save_figure(picture, plot)
    return world


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
