"""`midge monitor` as somebody before the terminal has it: keys in, text on the screen out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.color import Color
from textual.pilot import Pilot

from broker.control import Reply, Request, Verb
from broker.events import Connected, Disconnected, Received, Refused, SessionEvent, Subscribed
from broker.happenings import Severity
from broker.monitor import AggregatorDocument, Document, FederationDocument, ParticipantDocument, RunDocument
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.topics import (
    CONTROL_REPLY,
    CONTROL_REQUEST,
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_ROUND,
    MONITOR_RUN,
    Role,
    Topics,
)
from broker.wire import decode, encode
from deploy.command.options import OperatorSettings
from deploy.local.notice import posted
from deploy.monitor.app import Monitor
from deploy.monitor.columns import COLUMNS
from deploy.monitor.confirm import Confirm
from deploy.monitor.table import DeviceTable
from deploy.viewing.feed import Feed
from deploy.viewing.standing import standing
from host.settings import load_settings
from tests.broker.peer import Peer
from tests.deploy.home.federation import local, make_home, running
from tests.deploy.viewing.scene import RUN, device, event, happened, round_document, scene, written

TOPICS = Topics("lab")
SETTINGS = BrokerSettings(url="mqtt://127.0.0.1:1", username="monitor", federation="lab")
PATIENCE_S = 20.0
DEFAULT = Color.default()
WIDE, SMALL = (150, 40), (80, 24)

Script = Callable[["Stage"], Awaitable[None]]


class Stage:
    """The application on a terminal of its own."""

    def __init__(self, app: Monitor, feed: Feed, pilot: Pilot[None]) -> None:
        self.app, self.feed, self.pilot = app, feed, pilot

    async def hear(self, *events: SessionEvent) -> None:
        """As if it came from the broker."""
        for one in events:
            self.feed._events.put(one)
        self.app.look()
        await self.pilot.pause()

    async def tell(self, topic: str, document: Document) -> None:
        await self.hear(Received(topic, written(document), retained=False, expiry_s=None))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        self.app.look()
        await self.pilot.pause()

    @property
    def screen(self) -> str:
        """What stands there, line by line."""
        width, height = self.app.size
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines[:height])[
            : width * height * 2
        ]

    @property
    def devices(self) -> list[str]:
        """The table's first column."""
        return list(self.app.screen_stack[0].query_one(DeviceTable).order)

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.screen
            await self.pilot.pause(0.05)


def play(
    script: Script,
    *,
    size: tuple[int, int] = WIDE,
    told: bool = True,
    feed: Feed | None = None,
    settings: BrokerSettings = SETTINGS,
) -> None:
    """Run the application and the script; with `told`, the whole scene has come before."""

    async def run() -> None:
        fed = feed or Feed(settings)
        app = Monitor(fed, settings, 5.0)
        async with app.run_test(size=size, notifications=True) as pilot:
            stage = Stage(app, fed, pilot)
            if told:
                kept = [
                    Received(topic, payload, retained=True, expiry_s=None) for topic, payload in scene(TOPICS)
                ]
                await stage.hear(Connected("c"), Subscribed(ok=True), *kept)
            await script(stage)

    asyncio.run(run())


def test_a_large_terminal_shows_run_round_devices_curves_and_events() -> None:
    async def script(stage: Stage) -> None:
        lines = stage.screen.splitlines()
        assert lines[0].strip() == "federation lab  2 of 3 devices live: 1 lost, 1 training, 1 uploading"
        assert "20 %  run digits-1  round 3 of 10  about 10h00m left  accuracy 0.7" in lines[1]
        assert (
            "67 %  round 3  training  2 of 3 updates (quorum 2)  enough in 2h00m  3h00m left at most"
            in lines[2]
        )
        assert [word.strip("▲") for word in lines[3].split()] == [column.name for column in COLUMNS]
        assert lines[4].split()[:2] == ["cam-1", "lost"]
        assert "its data does not fit the contract" in lines[4]
        assert lines[5].split() == ["pi-1", "training", "████", "42/s", "2h15m", "61°C", "-", "█▃▁", "2/3"]
        assert "accuracy 0.7 in round 2" in stage.screen
        assert "loss 0.5 in round 2" in stage.screen
        assert "  pi-1 joined" in stage.screen
        assert "! cam-1 is lost" in stage.screen
        for key in ("Filter", "Sort", "Pause", "Resume", "Stop", "Exclude", "Quit"):
            assert key in lines[-1]

    play(script)


def test_80_by_24_has_all_but_the_events_which_a_key_shows() -> None:
    async def script(stage: Stage) -> None:
        assert max(map(len, stage.screen.splitlines())) <= 80
        assert len(stage.screen.splitlines()) == 24
        for text in ("run digits-1", "round 3", "cam-1", "pi-1", "pi-2", "accuracy 0.7", "loss 0.5", "Quit"):
            assert text in stage.screen
        assert "pi-1 joined" not in stage.screen
        await stage.press("l")
        assert "pi-1 joined" in stage.screen
        assert "accuracy 0.7 in round" not in stage.screen
        await stage.press("l")
        assert "pi-1 joined" not in stage.screen

    play(script, size=SMALL)


def test_without_colours_the_words_stand_and_nothing_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(stage: Stage) -> None:
        assert stage.app.theme == "ansi-dark"
        assert "lost" in stage.screen
        segments = [one for strip in stage.app.screen._compositor.render_strips() for one in strip]
        styles = [segment.style for segment in segments if segment.style is not None]
        assert {style.color for style in styles} | {style.bgcolor for style in styles} <= {None, DEFAULT}

    play(script)


@pytest.mark.parametrize(
    ("told", "theme"), [("0;15", "textual-light"), ("15;0", "textual-dark"), ("", "textual-dark")]
)
def test_a_light_terminal_that_says_so_gets_a_light_picture(
    monkeypatch: pytest.MonkeyPatch, told: str, theme: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLORFGBG", told)

    async def script(stage: Stage) -> None:
        assert stage.app.theme == theme
        await stage.press("t")
        assert stage.app.theme != theme

    play(script)


def test_what_comes_is_shown_and_what_is_taken_away_goes() -> None:
    async def script(stage: Stage) -> None:
        topic = TOPICS.topic(MONITOR_DEVICE, device="pi-3")
        await stage.tell(topic, device("pi-3", temperature_c=85.0, not_selected="too hot"))
        assert stage.devices == ["cam-1", "pi-1", "pi-2", "pi-3"]
        assert "85°C" in stage.screen
        await stage.tell(topic, device("pi-3", state="training", progress=1.0))
        assert "too hot" not in stage.screen
        await stage.hear(Received(topic, b"", retained=False, expiry_s=None))
        assert stage.devices == ["cam-1", "pi-1", "pi-2"]
        one = event(9, "pi-2 is rejected", Severity.ERROR)
        await stage.hear(Received(*happened(TOPICS, one), retained=False, expiry_s=None))
        assert "X pi-2 is rejected" in stage.screen

    play(script)


def test_typing_filters_by_words_and_escape_shows_all() -> None:
    async def script(stage: Stage) -> None:
        await stage.press("slash", *"pi")
        assert stage.devices == ["pi-1", "pi-2"]
        await stage.press("space", *"upl")
        assert stage.devices == ["pi-2"]
        await stage.press("enter", "s")
        assert stage.devices == ["pi-2"]
        await stage.press("escape")
        assert len(stage.devices) == 3
        await stage.press("slash", *"contract")
        assert stage.devices == ["cam-1"]

    play(script)


def test_columns_sort_one_after_the_other_and_both_ways() -> None:
    async def script(stage: Stage) -> None:
        await stage.press("S")
        assert stage.devices == ["pi-2", "pi-1", "cam-1"]
        assert "device▼" in stage.screen
        await stage.press("s")
        assert stage.devices == ["cam-1", "pi-1", "pi-2"]
        assert "state▲" in stage.screen
        temperature = [column.name for column in COLUMNS].index("temp")
        await stage.press(*["s"] * (temperature - 1))
        assert stage.devices == ["pi-1", "cam-1", "pi-2"]

    play(script)


def test_a_click_on_a_column_sorts_by_it() -> None:
    async def script(stage: Stage) -> None:
        await stage.pilot.click(DeviceTable, offset=(16, 0))
        await stage.pilot.pause()
        assert "state▲" in stage.screen

    play(script)


def test_the_cursor_stays_on_its_device_when_the_order_changes() -> None:
    async def script(stage: Stage) -> None:
        await stage.press("down")
        table = stage.app.query_one(DeviceTable)
        assert table.selected == "pi-1"
        await stage.tell(TOPICS.topic(MONITOR_DEVICE, device="a"), device("a"))
        assert table.selected == "pi-1"
        await stage.press("S")
        assert table.selected == "pi-1"
        assert stage.devices == ["pi-2", "pi-1", "cam-1", "a"]

    play(script)


def test_only_what_changed_is_drawn_again() -> None:
    async def script(stage: Stage) -> None:
        table = stage.app.query_one(DeviceTable)
        await stage.tell(TOPICS.topic(MONITOR_DEVICE, device="pi-1"), device("pi-1"))
        before = table.drawn
        await stage.hear()
        assert table.drawn == before
        topic = TOPICS.topic(MONITOR_DEVICE, device="pi-2")
        await stage.tell(topic, device("pi-2", state="uploading", battery=0.7))
        assert table.drawn == before + 1
        await stage.tell(topic, device("pi-2", state="uploading", battery=0.7, memory_bytes=1))
        assert table.drawn == before + 1

    play(script)


def test_enter_shows_one_device_with_its_rounds_and_steps() -> None:
    async def script(stage: Stage) -> None:
        await stage.press("down", "enter")
        for text in ("pi-1", "temperature", "61°C", "2h15m", "recent rounds, newest first", "loss 0.3333"):
            assert text in stage.screen
        assert "steps of round 3: training at 1s  reported at 13s" in stage.screen
        fields = {"state": "training", "progress": 0.75, "temperature_c": 66.0}
        await stage.tell(TOPICS.topic(MONITOR_DEVICE, device="pi-1"), device("pi-1", **fields))
        assert "66°C" in stage.screen
        await stage.press("escape")
        assert "accuracy 0.7 in round 2" in stage.screen

    play(script, size=(150, 60))


def test_names_and_words_of_others_are_text_wherever_they_stand() -> None:
    evil = "[/] [bold]\x1b[2J"
    part = ParticipantDocument(status=evil, training={f"loss{evil}": 1.0}, reason=evil)

    async def script(stage: Stage) -> None:
        shown = round_document(3).model_copy(update={"participants": {"pi-1": part}})
        await stage.tell(TOPICS.topic(MONITOR_ROUND, run=RUN, round=3), shown)
        said = device("pi-1", state=evil[:9], not_selected=evil, tags=(evil,), metrics={evil: 1.0})
        await stage.tell(TOPICS.topic(MONITOR_DEVICE, device="pi-1"), said)
        one = event(9, evil, Severity.ERROR)
        await stage.hear(Received(*happened(TOPICS, one), retained=False, expiry_s=None))
        await stage.press("down", "enter")
        assert stage.screen.count("[/] [bold]") >= 5
        assert "\x1b" not in stage.screen

    play(script, size=(150, 60))


@pytest.mark.parametrize("size", [SMALL, (60, 16), (120, 30), WIDE], ids=lambda size: f"{size[0]}x{size[1]}")
def test_it_fits_the_terminal_and_all_three_lines_are_seen(size: tuple[int, int]) -> None:
    async def script(stage: Stage) -> None:
        trouble = "connection lost; " + "and it was a long story, " * 5
        await stage.hear(Disconnected(trouble))
        assert not stage.app.screen.show_vertical_scrollbar
        said = stage.screen
        for words in ("and it was a long story", "federation lab", "run digits-1", "round 3  training"):
            assert words in said
        assert "Quit" in said or size[0] < SMALL[0]

    play(script, size=size)


def test_a_long_event_goes_on_below_and_again_when_the_terminal_is_another() -> None:
    words = [f"word-{number}" for number in range(30)]

    async def script(stage: Stage) -> None:
        await stage.hear(
            Received(*happened(TOPICS, event(3, " ".join(words))), retained=False, expiry_s=None)
        )
        assert all(word in stage.screen for word in words)
        await stage.pilot.resize_terminal(*WIDE)
        await stage.pilot.pause()
        assert all(word in stage.screen for word in words)
        assert stage.screen.count("word-7 ") == 1

    play(script, size=(120, 30))


def test_a_demo_that_gets_ready_and_one_that_is_over_are_no_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    feed = Feed(SETTINGS, demo=True)

    async def script(stage: Stage) -> None:
        with posted(SETTINGS, SETTINGS):
            await stage.hear(Connected("c"), Subscribed(ok=True))
            assert "the demo gets ready" in stage.screen
            await stage.hear(Disconnected("connection lost"))
            assert "no connection to" in stage.screen
        await stage.hear()
        assert "the demo is over" in stage.screen
        assert standing(feed, time.monotonic()).severity is Severity.WARNING

    play(script, told=False, feed=feed)


def test_nothing_heard_is_said_plainly() -> None:
    async def script(stage: Stage) -> None:
        await stage.hear()
        assert "connecting to mqtt://127.0.0.1:1" in stage.screen
        await stage.hear(Disconnected("Connection refused"))
        assert (
            "no connection to mqtt://127.0.0.1:1, trying again: Connection refused; nothing listens there"
            in stage.screen
        )
        await stage.hear(Refused("Not authorized", 1))
        assert "the broker refuses this account" in stage.screen

    play(script, told=False)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (AggregatorDocument(online=False), "the aggregator is offline; this is what it said last"),
        (AggregatorDocument(online=True, renewed_every_s=30, at_unix_s=1.0), "the aggregator is silent for "),
        (AggregatorDocument(online=True, schema_version=2), "its aggregator is of another version"),
    ],
    ids=["offline", "silent", "newer"],
)
def test_an_aggregator_that_says_nothing_any_more_is_named(document: AggregatorDocument, said: str) -> None:
    async def script(stage: Stage) -> None:
        topic = TOPICS.topic(MONITOR_AGGREGATOR)
        await stage.hear(Received(topic, document.payload(), retained=True, expiry_s=None))
        assert said in stage.screen.splitlines()[0]
        assert "run digits-1" in stage.screen
        await stage.tell(topic, AggregatorDocument(online=True))
        assert said not in stage.screen

    play(script)


def test_a_lost_broker_is_named_while_the_last_picture_stays() -> None:
    async def script(stage: Stage) -> None:
        await stage.hear(Disconnected("connection lost"))
        assert "no connection to mqtt://127.0.0.1:1" in stage.screen.splitlines()[0]
        assert "pi-1" in stage.screen

    play(script)


@pytest.mark.parametrize("answer", ["n", "escape", "enter"])
def test_a_command_is_not_given_before_it_is_confirmed(answer: str) -> None:
    async def script(stage: Stage) -> None:
        await stage.press("x")
        assert "Stop run digits-1 of federation lab? It ends; its model stays." in stage.screen
        assert [type(screen) for screen in stage.app.screen_stack[1:]] == [Confirm]
        await stage.press(answer)
        assert len(stage.app.screen_stack) == 1
        assert len(stage.app.workers) == 0

    play(script)


def test_a_run_that_is_over_by_the_time_of_the_answer_gives_no_command_to_the_next() -> None:
    async def script(stage: Stage) -> None:
        await stage.press("x")
        following = RunDocument(
            run="digits-2", task="digits", state="training", round=1, rounds=9, started_unix_s=2000.0
        )
        await stage.tell(TOPICS.topic(MONITOR_RUN, run="digits-2"), following)
        federation = FederationDocument(devices=3, live=2, run="digits-2", phase="training")
        await stage.tell(TOPICS.topic(MONITOR_FEDERATION), federation)
        await stage.press("y")
        await stage.until(lambda: "run digits-1 is over: nothing was asked for" in stage.screen)
        assert len(stage.app.workers) == 0

    play(script)


def test_without_a_run_there_is_nothing_to_pause() -> None:
    async def script(stage: Stage) -> None:
        await stage.hear(Connected("c"), Subscribed(ok=True))
        await stage.press("p")
        await stage.until(lambda: "there is no run" in stage.screen)

    play(script, told=False)


def answer(aggregator: Peer, user: str) -> Request:
    """Do as the aggregator does with the next command."""
    told = aggregator.until(
        Received, lambda message: message.topic == TOPICS.topic(CONTROL_REQUEST, user=user)
    )
    request = decode(Request, told.payload)
    reply = Reply(id=request.id, ok=True, text=f"{request.verb} it is")
    aggregator.send(TOPICS.topic(CONTROL_REPLY, user=user), encode(reply))
    return request


def test_in_a_home_it_follows_and_commands_by_the_operators_file_as_it_is(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    file = home.of(Role.OPERATOR) / "operator.toml"
    settings = load_settings(OperatorSettings, file, {}, {}).broker
    requests = TOPICS.filter(CONTROL_REQUEST)
    with (
        running(home),
        Peer(local(home, Role.AGGREGATOR), "aggregator", requests) as aggregator,
        Feed(settings) as feed,
    ):
        for topic, payload in scene(TOPICS):
            aggregator.send(topic, payload, retain=True)

        async def script(stage: Stage) -> None:
            await stage.until(lambda: len(stage.devices) == 3)
            await stage.press("p", "y")
            request = await asyncio.to_thread(answer, aggregator, "operator")
            assert request.verb is Verb.PAUSE
            await stage.until(lambda: "pause it is" in stage.screen)
            await stage.press("down", "down", "e")
            assert "Exclude device pi-2?" in stage.screen
            await stage.press("y")
            request = await asyncio.to_thread(answer, aggregator, "operator")
            assert (request.verb, request.device) == (Verb.EXCLUDE, "pi-2")
            await stage.until(lambda: "exclude it is" in stage.screen)
            assert stage.feed.connected, "a command does not take its own viewer's place"

        play(script, feed=feed, settings=settings, told=False)


def test_an_account_that_only_watches_is_told_so(mosquitto: Mosquitto) -> None:
    settings = mosquitto.settings("monitor")
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator, Feed(settings) as feed:
        for topic, payload in scene(TOPICS):
            aggregator.send(topic, payload, retain=True)

        async def script(stage: Stage) -> None:
            await stage.until(lambda: len(stage.devices) == 3)
            await stage.press("x", "y")
            await stage.until(lambda: "this account may only watch" in stage.screen)

        play(script, feed=feed, settings=settings, told=False)
