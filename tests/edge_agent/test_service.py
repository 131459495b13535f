import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import pytest

from broker import wire
from broker.events import Received
from broker.messages import (
    AgentState,
    Announcement,
    Assignment,
    BlobRef,
    DeclineReason,
    Federation,
    Grant,
    Heartbeat,
    Invite,
    Message,
    Offer,
    Presence,
    Receipt,
    ReceiptOutcome,
    Report,
)
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.signing import SignedAnnouncement, Signer, succeed
from broker.topics import (
    BLOB_CHUNK,
    FEDERATION,
    HEARTBEAT,
    INBOX,
    OFFER,
    PRESENCE,
    REPORT,
    ROUND,
    UPDATE_CHUNK,
    Branch,
    Topics,
)
from edge_agent.data.settings import NpzSettings
from edge_agent.seeds import derive_seed
from edge_agent.service import Service
from edge_agent.settings import AgentSettings
from edge_agent.store import Store
from host.exits import ExitCode
from host.notify import Notifier
from tests.broker.peer import Peer
from tests.edge_agent.agent_world import BIRTH, assignment
from tests.edge_agent.stub_trainer import UPDATE

STUB = "tests.edge_agent.stub_trainer"
DEVICE = "pi-1"
CHUNK_BYTES = 1024
PROGRAM = b"p" * 5000
M = TypeVar("M", bound=Message)


class Agent:
    """A service in a thread, over a state folder."""

    def __init__(
        self, broker: BrokerSettings, folder: Path, aggregator_key: str | None = None, silence_s: float = 600
    ) -> None:
        settings = AgentSettings(
            device=DEVICE,
            broker=broker.model_copy(update={"reconnect_min_s": 0.02, "reconnect_max_s": 0.1}),
            data=NpzSettings(path=Path("unused.npz")),
            state_folder=folder,
            aggregator_key=aggregator_key,
            nice=0,
            trainer_silence_s=silence_s,
        )
        self.store = Store(folder)
        self.service = Service(settings, self.store, BIRTH, Notifier({}), STUB)
        self.outcome: list[ExitCode] = []
        self.thread = threading.Thread(target=lambda: self.outcome.append(self.service.run()), daemon=True)
        self.thread.start()

    def ended(self) -> ExitCode:
        self.thread.join(30)
        self.store.close()
        return self.outcome[0]

    def close(self) -> None:
        self.service.stop("the test is over")
        assert self.ended() in {ExitCode.OK, ExitCode.REFUSED_CREDENTIALS}


class Aggregator:
    """What an aggregator says, by hand."""

    def __init__(self, peer: Peer, tree: Topics, signer: Signer) -> None:
        self.peer = peer
        self.tree = tree
        self.signer = signer
        self._sequence = 0

    def say(self, branch: Branch, message: Message, **fields: str) -> None:
        self.peer.send(self.tree.topic(branch, **fields), wire.encode(message), retain=branch.retained)

    def order(self, asked: Assignment | None, sequence: int) -> bytes:
        """Announce, and give what was published."""
        topic = self.tree.topic(ROUND)
        payload = self.signer.seal(topic, Announcement(session=5, sequence=sequence, assignment=asked))
        self.peer.send(topic, payload, retain=True)
        return payload

    def hear(self, branch: Branch, kind: type[M], match: Callable[[M], bool] = lambda _: True) -> M:
        """The next message of a branch that matches."""
        topic = self.tree.topic(branch, device=DEVICE)

        def matches(event: Received) -> bool:
            return event.topic == topic and match(wire.decode(kind, event.payload))

        return wire.decode(kind, self.peer.until(Received, matches).payload)

    def blob(self, content: bytes) -> BlobRef:
        """Publish a blob's chunks, retained."""
        ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=CHUNK_BYTES)
        for index in range(ref.chunks):
            chunk = content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            self.peer.send(self.tree.topic(BLOB_CHUNK, digest=ref.digest, index=index), chunk, retain=True)
        return ref

    def announce(self, behaviour: str, number: int = 1, phase: str = "training") -> Assignment:
        theta = self.blob(f"{behaviour:-<40000}".encode())
        asked = assignment(number, phase, theta=theta, program=self.blob(PROGRAM))
        self._sequence += 1
        self.introduce(5)
        self.order(asked, self._sequence)
        return asked

    def introduce(self, session: int) -> None:
        key = self.signer.public_key
        said = Federation(session=session, version="1", heartbeat_s=0.2, aggregator_key=key)
        self.say(FEDERATION, said)

    def collect(self, offer: Offer) -> bytes:
        """Grant an update and put its chunks together."""
        ref = offer.update
        indexes = tuple(range(ref.chunks))
        said = {"run": offer.run, "round": offer.round, "transfer": ref.transfer}
        self.say(INBOX, Grant.model_validate(said | {"indexes": indexes}), device=DEVICE)
        chunks: dict[int, bytes] = {}
        while len(chunks) < ref.chunks:
            received = self.peer.until(Received, lambda event: "/chunks/" in event.topic)
            address = self.tree.parse(received.topic)
            assert address is not None
            assert address.fields["transfer"] == ref.transfer
            chunks[int(address.fields["index"])] = received.payload
        return b"".join(chunks[index] for index in indexes)

    def answer(self, offer: Offer, outcome: ReceiptOutcome) -> None:
        receipt = Receipt(run=offer.run, round=offer.round, transfer=offer.update.transfer, outcome=outcome)
        self.say(INBOX, receipt, device=DEVICE)


@pytest.fixture
def aggregator(mosquitto: Mosquitto, topics: Topics, tmp_path: Path) -> Iterator[Aggregator]:
    branches = [PRESENCE, HEARTBEAT, OFFER, REPORT, UPDATE_CHUNK]
    with Peer(mosquitto.settings("aggregator"), "aggregator", *map(topics.filter, branches)) as peer:
        yield Aggregator(peer, topics, Signer(tmp_path / "signing.key"))


@pytest.fixture
def start(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Callable[[], Agent]]:
    with ExitStack() as running:
        yield lambda: running.enter_context(closing(Agent(mosquitto.settings(DEVICE), tmp_path / "state")))


def alive(aggregator: Aggregator, state: AgentState) -> Heartbeat:
    return aggregator.hear(HEARTBEAT, Heartbeat, lambda heartbeat: heartbeat.state is state)


def test_a_round_is_downloaded_trained_offered_uploaded_and_evaluated(
    aggregator: Aggregator, start: Callable[[], Agent], tmp_path: Path
) -> None:
    asked = aggregator.announce("train")
    agent = start()
    birth = aggregator.hear(PRESENCE, Presence)
    assert (birth.online, birth.examples, birth.runtimes) == (True, 7, ("keras",))
    offer = aggregator.hear(OFFER, Offer)
    assert (offer.examples, offer.metrics) == (7, {"loss": (3.5, 7.0)})
    update = aggregator.collect(offer)
    assert update == UPDATE + str(derive_seed(asked.settings.seed, 1, DEVICE)).encode()
    assert hashlib.sha256(update).hexdigest() == offer.update.digest
    trainer = agent.service._trainer.pid
    aggregator.answer(offer, ReceiptOutcome.ACCEPTED)
    alive(aggregator, AgentState.IDLE)
    assert not list((tmp_path / "state").glob("*.update"))
    evaluated = aggregator.announce("evaluate", phase="evaluating")
    report = aggregator.hear(REPORT, Report)
    assert report.metrics == {"accuracy": (3.0, 4.0)}
    # The trainer was kept warm, and only the blobs in use are kept.
    assert agent.service._trainer.pid == trainer
    names = {path.name for path in (tmp_path / "state/blobs").iterdir()}
    assert names == {evaluated.theta.digest, evaluated.program.digest}


def test_the_heartbeat_that_ends_a_transfer_has_all_its_bytes(
    aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    asked = aggregator.announce("train")
    start()
    trains = alive(aggregator, AgentState.TRAINING)
    assert trains.bytes_down == asked.theta.size + asked.program.size
    offer = aggregator.hear(OFFER, Offer)
    aggregator.collect(offer)
    aggregator.answer(offer, ReceiptOutcome.ACCEPTED)
    assert alive(aggregator, AgentState.IDLE).bytes_up == offer.update.size


def test_heartbeats_go_on_while_training_and_a_dropped_round_kills_the_trainer(
    aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    aggregator.announce("hang")
    agent = start()
    training = aggregator.hear(HEARTBEAT, Heartbeat, lambda beat: beat.progress > 0)
    assert (training.state, training.progress, training.examples_per_s) == (AgentState.TRAINING, 0.5, 10.0)
    assert training.memory_bytes > 0
    assert agent.service._trainer.pid is not None
    aggregator.order(None, 9)
    alive(aggregator, AgentState.IDLE)
    assert agent.service._trainer.pid is None


@pytest.mark.parametrize(
    ("behaviour", "reason", "detail"),
    [
        ("fail", "contract", "labels outside of the classes"),
        ("garble", "data", "caf?.png"),
        ("die", "training-failed", "exit status 3"),
        ("nonsense", "training-failed", "the trainer's answer"),
    ],
)
def test_a_trainer_that_fails_is_declined_and_the_agent_lives_on(
    aggregator: Aggregator, start: Callable[[], Agent], behaviour: str, reason: str, detail: str
) -> None:
    aggregator.announce(behaviour)
    start()
    report = aggregator.hear(REPORT, Report)
    assert report.declined is not None
    assert report.declined.value == reason
    assert report.detail.startswith(detail)
    aggregator.announce("train", 2)
    assert aggregator.hear(OFFER, Offer).round == 2


def test_a_trainer_that_talks_without_end_keeps_the_agent_from_nothing(
    aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    aggregator.announce("flood")
    start()
    for _ in range(3):
        beat = alive(aggregator, AgentState.TRAINING)
    assert beat.progress == 0.5
    aggregator.announce("train", 2)
    assert aggregator.hear(OFFER, Offer).round == 2


def test_a_silent_trainer_is_declined_and_the_agent_lives_on(
    mosquitto: Mosquitto, aggregator: Aggregator, tmp_path: Path
) -> None:
    aggregator.announce("mute")
    with closing(Agent(mosquitto.settings(DEVICE), tmp_path / "state", silence_s=0.5)):
        report = aggregator.hear(REPORT, Report)
        assert report.declined is DeclineReason.TRAINING_FAILED
        assert report.detail.startswith("the trainer said nothing for 0.5 s")
        aggregator.announce("fail", 2)
        assert aggregator.hear(REPORT, Report).round == 2


def test_a_pending_update_survives_a_restart_and_is_offered_again(
    aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    aggregator.announce("train")
    first = start()
    offer = aggregator.hear(OFFER, Offer)
    first.service.stop("restart")
    assert first.ended() is ExitCode.OK
    assert not aggregator.hear(PRESENCE, Presence, lambda presence: not presence.online).online
    start()
    assert aggregator.hear(PRESENCE, Presence, lambda presence: presence.online).online
    assert aggregator.hear(OFFER, Offer) == offer
    assert aggregator.collect(offer).startswith(UPDATE)


def test_training_outlives_a_broker_that_was_killed(
    mosquitto: Mosquitto, aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    aggregator.announce("train")
    start()
    offer = aggregator.hear(OFFER, Offer)
    mosquitto.kill()
    mosquitto.start()
    aggregator.peer.online()
    assert aggregator.hear(OFFER, Offer) == offer


def test_bad_messages_are_dropped_and_said_once(
    aggregator: Aggregator, start: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    start()
    aggregator.hear(PRESENCE, Presence)
    topic = aggregator.tree.topic(INBOX, device=DEVICE)
    for _ in range(5):
        aggregator.peer.send(topic, b"\xc1 nonsense")
    aggregator.announce("train")
    assert aggregator.hear(OFFER, Offer).round == 1
    assert caplog.text.count("was dropped") == 1


def test_a_blob_whose_content_is_wrong_is_fetched_until_it_is_right(
    aggregator: Aggregator, start: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    theta = f"{'train':-<40000}".encode()
    ref = aggregator.blob(theta)
    wrong = aggregator.tree.topic(BLOB_CHUNK, digest=ref.digest, index=3)
    aggregator.peer.send(wrong, b"?" * CHUNK_BYTES, retain=True)
    asked = assignment(theta=ref, program=aggregator.blob(PROGRAM))
    aggregator.order(asked, 1)
    start()
    alive(aggregator, AgentState.FETCHING)
    aggregator.blob(theta)
    assert aggregator.hear(OFFER, Offer).round == 1
    assert "fetched again" in caplog.text


def test_credentials_refused_again_and_again_end_the_agent(mosquitto: Mosquitto, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    broker = mosquitto.settings(DEVICE).model_copy(update={"password_file": wrong, "refusals_before_exit": 3})
    assert Agent(broker, tmp_path / "state").ended() is ExitCode.REFUSED_CREDENTIALS


class Heard(logging.Handler):
    """Set once a line with these words was logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self.came.set()


def test_of_two_machines_with_one_id_the_older_keeps_quiet(
    mosquitto: Mosquitto, aggregator: Aggregator, start: Callable[[], Agent], tmp_path: Path
) -> None:
    complaint = Heard("another machine")
    logging.getLogger("edge_agent").addHandler(complaint)
    first = start()
    aggregator.hear(PRESENCE, Presence)
    with closing(Agent(mosquitto.settings(DEVICE), tmp_path / "other")) as second:
        assert complaint.came.wait(30)
        logging.getLogger("edge_agent").removeHandler(complaint)
        aggregator.announce("train")
        assert aggregator.hear(OFFER, Offer).round == 1
        assert first.service._core.state is AgentState.DISPLACED
        assert second.service._core.state is AgentState.UPLOADING


def test_orders_that_found_the_inbox_full_are_asked_for_again(
    aggregator: Aggregator, start: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    overflow = Heard("the inbox is full")
    logger = logging.getLogger("edge_agent")
    logger.addHandler(overflow)
    caplog.set_level(logging.DEBUG, "edge_agent")
    agent = start()
    aggregator.hear(PRESENCE, Presence)
    theta = aggregator.blob(f"{'train':-<40000}".encode())
    asked = assignment(theta=theta, program=aggregator.blob(PROGRAM))
    agent.service._inbox._limit = 0
    aggregator.order(asked, 1)
    assert overflow.came.wait(30)
    agent.service._inbox._limit = 256
    assert aggregator.hear(OFFER, Offer).round == 1
    logger.removeHandler(overflow)


# With a pinned key.


@pytest.fixture
def start_pinned(
    mosquitto: Mosquitto, aggregator: Aggregator, tmp_path: Path
) -> Iterator[Callable[[], Agent]]:
    key = aggregator.signer.public_key
    with ExitStack() as running:
        yield lambda: running.enter_context(
            closing(Agent(mosquitto.settings(DEVICE), tmp_path / "state", key))
        )


def forged(aggregator: Aggregator, folder: Path, asked: Assignment) -> list[bytes]:
    """One order as the aggregator did not sign it: bare, unsigned, by another, for another federation."""
    topic = aggregator.tree.topic(ROUND)
    order = Announcement(session=5, sequence=50, assignment=asked)
    true = aggregator.signer
    content = wire.encode(order)
    unsigned = wire.encode(SignedAnnouncement(announcement=content, signature=bytes(64)))
    elsewhere = true.seal(Topics("other").topic(ROUND), order)
    return [content, unsigned, Signer(folder / "intruder.key").seal(topic, order), elsewhere]


def test_nothing_of_a_forged_announcement_is_fetched_or_run(
    aggregator: Aggregator,
    start_pinned: Callable[[], Agent],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = start_pinned()
    aggregator.hear(PRESENCE, Presence)
    hostile = assignment(9, theta=aggregator.blob(b"hostile"), program=aggregator.blob(b"evil"))
    for payload in forged(aggregator, tmp_path, hostile):
        aggregator.peer.send(aggregator.tree.topic(ROUND), payload, retain=True)
    aggregator.say(INBOX, Invite(run=hostile.run, round=hostile.round), device=DEVICE)
    asked = aggregator.announce("train")
    assert aggregator.hear(OFFER, Offer).round == 1
    names = {path.name for path in (tmp_path / "state/blobs").iterdir()}
    assert names == {asked.theta.digest, asked.program.digest}
    assert agent.service._dropped["forged"] == 3
    assert caplog.text.count("is not signed with the pinned aggregator_key") == 1
    assert "obeying whoever" not in caplog.text


def test_an_agent_follows_the_signing_key_and_obeys_the_old_one_no_more_after_a_restart_either(
    aggregator: Aggregator,
    start_pinned: Callable[[], Agent],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = start_pinned()
    aggregator.hear(PRESENCE, Presence)
    old = aggregator.signer
    succeed(tmp_path / "signing.key", aggregator.tree.topic(ROUND))
    aggregator.signer = Signer(tmp_path / "signing.key")
    aggregator.announce("train")
    aggregator.answer(aggregator.hear(OFFER, Offer), ReceiptOutcome.ACCEPTED)
    alive(aggregator, AgentState.IDLE)
    agent.service.stop("restart")
    assert agent.ended() is ExitCode.OK

    agent = start_pinned()
    aggregator.hear(PRESENCE, Presence, lambda presence: presence.online)
    new, aggregator.signer = aggregator.signer, old
    aggregator.announce("train", 2)
    aggregator.signer = new
    aggregator.announce("train", 3)
    assert aggregator.hear(OFFER, Offer, lambda offer: offer.round > 1).round == 3
    assert agent.service._dropped["forged"] == 1
    assert "gave way to" in caplog.text


def test_a_birth_that_was_taken_off_the_broker_is_said_again(
    aggregator: Aggregator, start: Callable[[], Agent]
) -> None:
    start()
    birth = aggregator.hear(PRESENCE, Presence)
    topic = aggregator.tree.topic(PRESENCE, device=DEVICE)
    aggregator.peer.send(topic, b"", retain=True)
    again = aggregator.peer.until(Received, lambda event: event.topic == topic and bool(event.payload))
    assert wire.decode(Presence, again.payload) == birth


def test_who_claims_to_aggregate_later_cannot_silence_the_true_one(
    aggregator: Aggregator, start_pinned: Callable[[], Agent]
) -> None:
    start_pinned()
    aggregator.hear(PRESENCE, Presence)
    aggregator.introduce(1 << 60)
    aggregator.announce("train")
    assert aggregator.hear(OFFER, Offer).round == 1


def test_an_old_announcement_said_again_changes_nothing_after_a_restart_either(
    aggregator: Aggregator, start_pinned: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "edge_agent")
    theta = aggregator.blob(f"{'hang':-<40000}".encode())
    old = aggregator.order(assignment(theta=theta, program=aggregator.blob(PROGRAM)), 0)
    agent = start_pinned()
    alive(aggregator, AgentState.TRAINING)
    aggregator.order(None, 1)
    alive(aggregator, AgentState.IDLE)
    agent.service.stop("restart")
    assert agent.ended() is ExitCode.OK
    aggregator.peer.send(aggregator.tree.topic(ROUND), old, retain=True)
    agent = start_pinned()
    # What comes after it has been read shows that it has been.
    aggregator.announce("train", 2)
    aggregator.announce("train", 2)
    assert aggregator.hear(OFFER, Offer).round == 2
    assert caplog.text.count("round 1 of run") == 1
    assert "announcement 5/0 is stale or known" in caplog.text


def test_an_agent_without_a_key_says_whom_it_obeys(
    aggregator: Aggregator, start: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    start()
    aggregator.hear(PRESENCE, Presence)
    topic = aggregator.tree.topic(ROUND)
    assert caplog.text.count(f"no aggregator_key is set: obeying whoever can write {topic}") == 1
