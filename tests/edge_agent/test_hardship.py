"""What becomes of a real agent on a real broker when its owner, its disk or its memory is against it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from broker.events import Received
from broker.messages import AgentState, DeclineReason, Heartbeat, Offer, Presence, ReceiptOutcome, Report
from broker.mosquitto import Mosquitto
from broker.signing import Signer
from broker.topics import HEARTBEAT, OFFER, PRESENCE, REPORT, UPDATE_CHUNK, Topics
from broker.wire import decode
from edge_agent.pausing import read_clock, remove_pause, write_pause
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.edge_agent.small_disk import SmallDisk, small_disk
from tests.edge_agent.test_service import DEVICE, Agent, Aggregator, alive

# Larger than what is to be kept free for blobs, and small enough to be filled at once.
CARD_BYTES = 48 << 20


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look around often, and take what was over for a moment as over."""
    monkeypatch.setattr("edge_agent.service.VITALS_S", 0.1)
    monkeypatch.setattr("edge_agent.disk.RETRY_S", 0.1)
    monkeypatch.setattr("edge_agent.availability.CALM_S", 0.2)


@pytest.fixture
def aggregator(mosquitto: Mosquitto, topics: Topics, tmp_path: Path) -> Iterator[Aggregator]:
    branches = [PRESENCE, HEARTBEAT, OFFER, REPORT, UPDATE_CHUNK]
    with Peer(mosquitto.settings("aggregator"), "aggregator", *map(topics.filter, branches)) as peer:
        yield Aggregator(peer, topics, Signer(tmp_path / "signing.key"))


@pytest.fixture
def start(mosquitto: Mosquitto) -> Iterator[Callable[[Path], Agent]]:
    with ExitStack() as running:
        yield lambda folder: running.enter_context(closing(Agent(mosquitto.settings(DEVICE), folder)))


@pytest.fixture
def card(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "card", CARD_BYTES) as disk:
        yield disk


def says(aggregator: Aggregator, unavailable: DeclineReason | None) -> Presence:
    """The next birth that tells of this."""
    return aggregator.hear(PRESENCE, Presence, lambda said: said.online and said.unavailable is unavailable)


def declines(aggregator: Aggregator, number: int) -> Report:
    return aggregator.hear(REPORT, Report, lambda report: report.round == number)


def trains(aggregator: Aggregator, number: int) -> None:
    aggregator.announce("train", number)
    assert aggregator.hear(OFFER, Offer, lambda offer: offer.round == number)


def test_a_pause_stops_training_at_once_and_the_next_round_after_it_is_trained(
    aggregator: Aggregator, start: Callable[[Path], Agent], tmp_path: Path
) -> None:
    aggregator.announce("hang")
    agent = start(tmp_path / "state")
    alive(aggregator, AgentState.TRAINING)
    write_pause(tmp_path / "state", None, read_clock())
    assert declines(aggregator, 1).declined is DeclineReason.PAUSED
    alive(aggregator, AgentState.IDLE)
    assert agent.service._trainer.pid is None
    aggregator.announce("train", 2)
    assert declines(aggregator, 2).detail == "paused by its owner until midge-agent resume"
    remove_pause(tmp_path / "state")
    assert says(aggregator, None).detail == ""
    trains(aggregator, 3)


def test_an_agent_whose_pause_outlived_a_restart_says_so_in_its_first_birth(
    aggregator: Aggregator, start: Callable[[Path], Agent], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    write_pause(tmp_path / "state", 3600, read_clock())
    start(tmp_path / "state")
    birth = aggregator.hear(PRESENCE, Presence)
    assert (birth.unavailable, birth.detail) == (DeclineReason.PAUSED, "paused by its owner for 1 h")


def test_a_full_disk_is_told_and_the_agent_lives_on(
    aggregator: Aggregator, start: Callable[[Path], Agent], card: SmallDisk
) -> None:
    start(card.path)
    says(aggregator, None)
    card.fill()
    assert "MiB free for state_folder, at least 8" in says(aggregator, DeclineReason.DISK).detail
    aggregator.announce("train", 1)
    assert declines(aggregator, 1).declined is DeclineReason.DISK
    card.empty()
    says(aggregator, None)
    trains(aggregator, 2)


def test_a_snapshot_that_finds_no_room_stops_the_work_and_is_made_up_for(
    aggregator: Aggregator, start: Callable[[Path], Agent], card: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So the write itself is what finds it out.
    monkeypatch.setattr("edge_agent.conditions.MIN_FREE_DISK_BYTES", 0)
    aggregator.announce("hang")
    agent = start(card.path)
    alive(aggregator, AgentState.TRAINING)
    card.fill()
    aggregator.announce("train", 2)
    assert "No space left" in says(aggregator, DeclineReason.DISK).detail
    assert declines(aggregator, 2).declined is DeclineReason.DISK
    assert agent.service._trainer.pid is None
    assert alive(aggregator, AgentState.IDLE).connection
    card.empty()
    says(aggregator, None)
    trains(aggregator, 3)


def test_a_receipt_that_cannot_be_kept_is_asked_for_again(
    aggregator: Aggregator, start: Callable[[Path], Agent], card: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.conditions.MIN_FREE_DISK_BYTES", 0)
    aggregator.announce("train")
    agent = start(card.path)
    offer = aggregator.hear(OFFER, Offer)
    card.fill()
    aggregator.answer(offer, ReceiptOutcome.ACCEPTED)
    says(aggregator, DeclineReason.DISK)
    fallen_back = agent.service._core
    for _ in range(3):
        assert aggregator.hear(OFFER, Offer) == offer
        aggregator.answer(offer, ReceiptOutcome.ACCEPTED)
    assert agent.service._core is fallen_back
    card.empty()
    says(aggregator, None)
    aggregator.answer(offer, ReceiptOutcome.ACCEPTED)
    alive(aggregator, AgentState.IDLE)
    assert not list(card.path.glob("*.update"))


def test_a_disk_that_became_read_only_is_told_also_after_a_restart(
    aggregator: Aggregator, start: Callable[[Path], Agent], card: SmallDisk
) -> None:
    agent = start(card.path)
    says(aggregator, None)
    card.make_read_only()
    assert "read-only" in says(aggregator, DeclineReason.DISK).detail
    agent.service.stop("restart")
    assert agent.ended() is ExitCode.OK
    start(card.path)
    says(aggregator, DeclineReason.DISK)
    aggregator.announce("train")
    assert declines(aggregator, 1).declined is DeclineReason.DISK
    card.make_writable()
    says(aggregator, None)
    trains(aggregator, 2)


def test_a_trainer_that_the_kernel_kills_is_tried_once_more_and_then_declined(
    aggregator: Aggregator, start: Callable[[Path], Agent], tmp_path: Path
) -> None:
    aggregator.announce("hang")
    agent = start(tmp_path / "state")
    killed: set[int] = set()
    while len(killed) < 2:
        aggregator.hear(HEARTBEAT, Heartbeat)
        pid = agent.service._trainer.pid
        if pid is not None and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    report = declines(aggregator, 1)
    assert report.declined is DeclineReason.TRAINING_FAILED
    assert report.detail == "killed by SIGKILL (out of memory?)"
    trains(aggregator, 2)


def test_what_is_said_of_availability_is_retained_for_who_comes_later(
    aggregator: Aggregator, mosquitto: Mosquitto, start: Callable[[Path], Agent], tmp_path: Path
) -> None:
    start(tmp_path / "state")
    says(aggregator, None)
    write_pause(tmp_path / "state", None, read_clock())
    says(aggregator, DeclineReason.PAUSED)
    topic = aggregator.tree.topic(PRESENCE, device=DEVICE)
    with Peer(mosquitto.settings("aggregator"), "later", topic) as later:
        received = later.until(Received)
        assert received.retained
        assert decode(Presence, received.payload).unavailable is DeclineReason.PAUSED


def test_a_round_syncs_the_card_ten_times_and_an_idle_agent_never(
    aggregator: Aggregator, start: Callable[[Path], Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(number: int) -> None:
        aggregator.announce("train", number)
        aggregator.answer(aggregator.hear(OFFER, Offer), ReceiptOutcome.ACCEPTED)
        alive(aggregator, AgentState.IDLE)
        aggregator.announce(f"evaluate{number}", number, "evaluating")
        aggregator.hear(REPORT, Report)

    start(tmp_path / "state")
    # The first one has the program, its speed and the aggregator's session to keep, too.
    play(1)
    synced: list[int] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    for _ in range(5):
        aggregator.hear(HEARTBEAT, Heartbeat)
    assert synced == []
    play(2)
    # The update and three snapshots, each with its folder, and both thetas: in a real run one of them is new
    # in a round, since the next one begins with what was evaluated.
    assert len(synced) == 12
