"""One example of every message, with every field set."""

from broker.contract import DataContract
from broker.messages import (
    AgentState,
    Announcement,
    Assignment,
    AssignmentPhase,
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
    RejectReason,
    Reply,
    Report,
    Request,
    RoundKind,
    RunSummary,
    TrainingSettings,
    Verb,
)

DIGEST = "ab" * 32
TRANSFER = "ab" * 8
CONNECTION = "0123456789abcdef"
BLOB = BlobRef(digest=DIGEST, size=1_000_000, chunk_bytes=98_304)
ASSIGNMENT = Assignment(
    run="run-1",
    round=3,
    kind=RoundKind.TRAIN,
    phase=AssignmentPhase.TRAINING,
    theta=BLOB,
    program=BLOB,
    layout=DIGEST,
    runtime="litert",
    contract=DataContract(shape=(28, 28, 1), classes=("cat", "dog")),
    settings=TrainingSettings(epochs=None, steps=10, learning_rate=0.01),
    cohort=("pi-1", "pi-2"),
)
EXAMPLES: tuple[Message, ...] = (
    Federation(session=7, version="0.1.0", heartbeat_s=10.0),
    Announcement(session=7, sequence=2, assignment=ASSIGNMENT),
    Presence(
        online=True,
        connection=CONNECTION,
        version="0.1.0",
        machine="aarch64",
        cores=4,
        memory_bytes=1 << 30,
        runtimes=("litert",),
        tags=("indoor",),
        examples=600,
    ),
    Heartbeat(
        connection=CONNECTION,
        state=AgentState.TRAINING,
        run="run-1",
        round=3,
        progress=0.5,
        examples_per_s=120.0,
        memory_bytes=1 << 26,
        temperature_c=61.5,
    ),
    Offer(
        run="run-1",
        round=3,
        update=BLOB,
        examples=600,
        metrics={"loss": (12.5, 600.0)},
        validation={"accuracy": (55.0, 60.0)},
        seconds=4.5,
    ),
    Report(
        run="run-1",
        round=3,
        metrics={"loss": (1.0, 2.0)},
        declined=DeclineReason.CONTRACT,
        detail="wrong shape",
    ),
    Invite(run="run-1", round=3),
    Grant(run="run-1", round=3, transfer=TRANSFER, indexes=(0, 5, 6)),
    Receipt(
        run="run-1",
        round=3,
        transfer=TRANSFER,
        outcome=ReceiptOutcome.REJECTED,
        reason=RejectReason.NOT_FINITE,
    ),
    Request(
        id=CONNECTION,
        verb=Verb.START,
        task="mnist",
        settings={"rounds": 5, "fast": True, "rate": 0.5, "n": "x"},
    ),
    Reply(
        id=CONNECTION,
        ok=True,
        text="started",
        run="run-1",
        runs=(
            RunSummary(
                run="run-1",
                task="mnist",
                state="training",
                rounds=5,
                rounds_done=2,
                started_unix_s=1.5,
                metrics={"loss": 0.25},
            ),
        ),
    ),
)
