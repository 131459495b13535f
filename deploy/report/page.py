"""The report as one HTML page: no script, nothing fetched, everything that devices said escaped."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aggregator.run_settings import RunSettings
from deploy.report import confusions, pictures
from deploy.report.canvas import PALETTE, Picture, to_png, to_svg
from deploy.report.facts import DeviceFacts, Facts, RoundFacts
from deploy.report.fairness import evenness, fairness
from deploy.report.gantt import gantt
from deploy.report.gather import thinned
from deploy.report.measures import best_round, lower_is_better
from deploy.report.reproducing import commands
from deploy.report.runfiles import RunFiles
from deploy.viewing import prose, words
from host.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.html.jinja"
MAX_ROUND_ROWS = 30
MAX_DEVICE_ROWS = 30


def page(facts: Facts, files: RunFiles, version: str) -> str:
    """Write the page; raises ConfigError where a library is missing."""
    name = facts.names[0] if facts.names else None
    drawn = {key: [_figure(one) for one in found] for key, found in _pictures(facts).items()}
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            facts=facts,
            run=facts.run,
            setting=facts.run.settings.get,
            files=files,
            version=version,
            palette=PALETTE,
            name=name,
            best=best_round(facts.rounds, name) if name else None,
            lower=lower_is_better(name) if name else False,
            pictures=drawn,
            rounds=_round_rows(facts, name),
            devices=_device_rows(facts.devices),
            totals=_totals(facts),
            fits=_fit_rows(facts, name),
            fair=fairness(facts.fits, name) if name else None,
            even=evenness(facts.devices),
            spread=next((one for one in reversed(facts.spreads) if one.federated or one.own), None),
            abandoned=[one for one in facts.rounds if one.outcome == "abandoned"],
            confusion=confusions.shown(files.confusion),
            confusion_picture=_figure(found) if (found := confusions.picture(files.confusion)) else None,
            settings=_settings(facts),
            commands=commands(facts.run, files),
        )
    )


def write_pictures(facts: Facts, files: RunFiles, folder: Path) -> list[Path]:
    """Write each picture of the page as a PNG file; raises DataError, ConfigError."""
    found = [picture for group in _pictures(facts).values() for picture in group]
    matrix = confusions.picture(files.confusion, always=True)
    paths = []
    for picture in [*found, *([matrix] if matrix else [])]:
        paths.append(folder / f"{picture.name}.png")
        to_png(picture, paths[-1])
    return paths


def _pictures(facts: Facts) -> Mapping[str, Sequence[Picture]]:
    one_each = {
        "participation": pictures.participation,
        "versus": pictures.versus,
        "phases": pictures.phases,
        "traffic": pictures.traffic,
    }
    found = {key: draw(facts) for key, draw in one_each.items()}
    return {
        "curves": pictures.curves(facts),
        "timelines": [gantt(one) for one in facts.timelines],
        **{key: [picture] if picture else [] for key, picture in found.items()},
    }


def _figure(picture: Picture) -> dict[str, Any]:
    from markupsafe import Markup  # noqa: PLC0415  comes with jinja2, an extra

    # Matplotlib escapes what it writes, and so does to_svg.
    svg = Markup(to_svg(picture))  # noqa: S704
    return {"svg": svg, "title": picture.title, "alt": picture.alt, "width": picture.width}


def _round_rows(facts: Facts, name: str | None) -> list[dict[str, Any]]:
    """Evenly chosen rounds; the devices' values where these were looked at."""
    spreads = {one.round: one for one in facts.spreads}
    best = best_round(facts.rounds, name) if name else None
    chosen = thinned([one.round for one in facts.rounds], MAX_ROUND_ROWS)
    return [
        {
            "about": one,
            "best": best is not None and one.round == best.round,
            "spread": spreads[one.round].federated.get(name) if name and one.round in spreads else None,
        }
        for one in facts.rounds
        if one.round in {*chosen, best.round if best else 0}
    ]


def _device_rows(devices: Sequence[DeviceFacts]) -> list[DeviceFacts]:
    """All of them by name; of too many, those of which the smallest part of the updates counted."""
    if len(devices) <= MAX_DEVICE_ROWS:
        return list(devices)
    return sorted(devices, key=lambda one: (one.accepted / max(1, one.asked), one.device))[:MAX_DEVICE_ROWS]


def _fit_rows(facts: Facts, name: str | None) -> list[dict[str, Any]]:
    """Devices with both values, those that gained least from the federation first."""
    if name is None:
        return []
    sign = -1 if lower_is_better(name) else 1
    both = [one for one in facts.fits if name in one.own and name in one.federated]
    rows = [
        {"about": one, "own": one.own[name], "federated": one.federated[name]}
        | {"gain": sign * (one.federated[name] - one.own[name])}
        for one in both
    ]
    return sorted(rows, key=lambda row: row["gain"])


def _totals(facts: Facts) -> dict[str, Any]:
    rounds: Sequence[RoundFacts] = facts.rounds
    completed = [one for one in facts.closed if one.outcome != "abandoned"]
    return {
        "completed": len(completed),
        "asked": sum(one.asked for one in rounds),
        "accepted": sum(one.accepted for one in rounds),
        "bytes_up": sum(one.bytes_up for one in rounds),
        "bytes_down": sum(one.bytes_down for one in rounds),
        "training_s": sum(one.seconds for one in facts.devices),
        "weights": sum(one.examples * one.accepted for one in facts.devices),
    }


def _settings(facts: Facts) -> list[dict[str, Any]]:
    """Every setting with its default; what this midge does not know of any more has neither."""
    found = []
    for name, value in facts.run.settings.items():
        about = RunSettings.model_fields.get(name)
        default = about.default if about else None
        what = about.description if about else "not known to this version"
        found.append({"name": name, "value": value, "changed": value != default, "what": what})
    return found


@cache
def _environment() -> "Environment":
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        raise ConfigError("a report takes jinja2: pip install 'midge[operator]'") from None
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for spell in (prose.count, prose.part, prose.utc, prose.value):
        environment.filters[spell.__name__] = spell
    environment.filters |= {"duration": _kept(prose.duration), "size": _kept(words.size)}
    return environment


def _kept(spell: Callable[[float], str]) -> Callable[[float], str]:
    """Keep a number and its unit on one line."""
    return lambda figure: spell(figure).replace(" ", "\N{NO-BREAK SPACE}")
