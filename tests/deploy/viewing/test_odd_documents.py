"""No document that can be read, however odd, keeps a terminal or a page from being drawn."""

import json
import random
from typing import Any

import pytest
from rich.console import Console

from broker.monitor import ConfusionDocument
from broker.topics import MONITOR_CONFUSION, MONITOR_DEVICE, Topics
from deploy.dashboard.curves import device_figures, options, run_figures
from deploy.dashboard.device_page import fields
from deploy.dashboard.fleet import ORDERS, Choice, choose, counted, needs_care, spark
from deploy.dashboard.lanes import DOING, device_chart, round_chart
from deploy.dashboard.markup import render
from deploy.dashboard.mistakes import mistakes
from deploy.dashboard.overview import PHASES, round_facts
from deploy.monitor import detail
from deploy.monitor.columns import COLUMNS, Row, cells, ordered
from deploy.viewing.curves import curves, drawn, summaries
from deploy.viewing.devices import LossHistory, is_hot
from deploy.viewing.events import line
from deploy.viewing.summary import summary
from deploy.viewing.view import View
from tests.deploy.viewing.scene import RUN, scene

TOPICS = Topics("lab")
WHOLE = (0, -1, 1, 2**62, -(2**62))
BROKEN = (0.0, -1.0, 3e9, 1e308, -1e308, 1e-308)
OTHER: tuple[Any, ...] = (None, "", "[/]", "\x1b[2J", [], {})
CONFUSION = ConfusionDocument(run=RUN, round=2, classes=("a", "b"), counts=((1, 2), (3, 4)))


def odd(value: Any, chance: random.Random, often: float) -> Any:  # noqa: ANN401  JSON
    """The same with some of its leaves replaced, mostly by what still fits."""
    if isinstance(value, dict):
        return {name: odd(one, chance, often) for name, one in value.items()}
    if isinstance(value, list):
        return [odd(one, chance, often) for one in value]
    if chance.random() >= often:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.95:
        return chance.choice(WHOLE if isinstance(value, int) else BROKEN)
    return chance.choice(OTHER) if chance.random() < 0.1 else value


def odd_view(chance: random.Random) -> View:
    view = View(TOPICS)
    told = [*scene(TOPICS), (TOPICS.topic(MONITOR_CONFUSION, run=RUN), CONFUSION.payload())]
    for topic, payload in told:
        document = odd(json.loads(payload), chance, chance.choice((0.0, 0.05, 0.3)))
        if chance.random() < 0.9:
            view.take(topic, json.dumps(document).encode(), 100.0, 3e9)
    return view


def draw_terminal(view: View, console: Console) -> None:
    summary(view, "lab", 200.0)
    for points in curves(view).values():
        drawn(points, 20, 5)
    rounds = view.rounds(RUN)
    losses = LossHistory().of(rounds)
    ages_s = {name: view.age_s(MONITOR_DEVICE, 200.0, device=name) for name in view.devices}
    rows = [Row(one, ages_s[name], losses.get(name, ())) for name, one in view.devices.items()]
    for row in rows:
        cells(row)
        console.print(detail._fields(row.device, 1.0), *detail._rounds(row.device.device, rounds))
    for column in COLUMNS:
        ordered(rows, column, reverse=False)
    for event in view.events:
        line(event)


def draw_pages(view: View) -> None:
    rounds, devices = view.rounds(RUN), list(view.devices.values())
    losses = LossHistory().of(rounds)
    figures = [*run_figures(summaries(view.history(RUN), view.closed(RUN)))]
    for one in devices:
        figures += device_figures(rounds, one.device)
        about = {"device": one, "stale": True, "care": needs_care(one)}
        render("card", **about, busy=True, hot=is_hot(one), spark=spark(losses.get(one.device, ())))
        render("device", **about, name=one.device, fields=fields(one))
        chart = device_chart(rounds, one.device)
        render("lanes", chart=chart, doing=DOING, caption="", of="round")
    for figure in figures:
        json.dumps(options(figure), allow_nan=False)
        render("table", figure=figure)
        assert figure.facts
    for order in ORDERS:
        choose(devices, Choice(order=order))
    for document in rounds:
        render("round", run=view.run, round=document, phases=PHASES, **round_facts(document, 1.0))
        render("lanes", chart=round_chart(document, 1.0), doing=DOING, caption="", of="device")
    if (confusion := view.confusion(RUN)) is not None:
        render("confusion", found=mistakes(confusion), round=1)
    render("federation", live=1, known=1, states=counted(devices), run=view.run, metrics=[], looks=[])
    render("events", events=view.events)


@pytest.mark.parametrize("seed", range(3))
def test_every_view_draws_what_is_odd(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  no secret
    shown = 0
    for _ in range(40):
        view = odd_view(chance)
        draw_terminal(view, Console(width=100))
        draw_pages(view)
        shown += len(view.devices) + len(view.rounds(RUN))
    assert shown > 100


def test_a_round_without_a_target_has_no_quorum_to_mark() -> None:
    view = View(TOPICS)
    for topic, payload in scene(TOPICS):
        view.take(topic, payload, 100.0)
    document = view.rounds(RUN)[-1].model_copy(update={"target": 0, "quorum": -1})
    said = render("round", run=view.run, round=document, phases=PHASES, **round_facts(document, 1.0))
    assert "<u" not in said
