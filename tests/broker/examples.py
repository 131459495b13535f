"""One example of every message, with every field set."""

from broker.contract import DataContract, Needs
from broker.control import Reply, Request, RunSummary, Verb
from broker.enrolment import EnrolmentRequest, Issued, Refusal, RefusalReason, RenewalRequest
from broker.envelope import Envelope
from broker.litert import LiteRTBody
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
    RateSchedule,
    Receipt,
    ReceiptOutcome,
    RejectReason,
    Report,
    RoundKind,
    TrainingSettings,
)
from broker.signing import SignedAnnouncement
from broker.trust import Certifier, Trust

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
    needs=Needs(memory_bytes=1 << 29, cores=2, machine="aarch64", tags=("indoor",), examples_per_s=12.5),
    settings=TrainingSettings(
        epochs=None,
        steps=10,
        learning_rate=0.01,
        schedule=RateSchedule(shape="cosine", begin=2, end=3, rounds=50, warmup_rounds=1, final_rate=0.1),
        proximal=0.01,
        clip_norm=1.5,
        short_batch="drop",
    ),
    cohort=("pi-1", "pi-2"),
)
EXAMPLES: tuple[Message, ...] = (
    Federation(session=7, version="0.1.0", heartbeat_s=10.0, aggregator_key=DIGEST),
    Announcement(session=7, sequence=2, assignment=ASSIGNMENT),
    SignedAnnouncement(announcement=b"\x81\xa0", signature=bytes(range(64))),
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
        speeds={DIGEST: 120.5},
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
        battery=0.75,
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
    Envelope(device_key="ab" * 32, sealed=b"sealed", signature=bytes(64)),
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
    EnrolmentRequest(request=b"request", proof=b"signature"),
    RenewalRequest(request=b"request", certificate=b"certificate", proof=b"signature"),
    Issued(
        request=DIGEST,
        chain=b"certificates",
        renew_after_s=20_736_000.0,
        trust=Trust(roots=b"roots", voucher=b"intermediate", signature=b"signature"),
    ),
    Certifier(issuer=DIGEST, roots=(DIGEST,), within_s=86_400.0),
    Refusal(request=DIGEST, reason=RefusalReason.TOO_EARLY, wait_s=86_400.0),
)

LITERT_BODY = LiteRTBody(
    batch=32,
    optimizer_size=1,
    learning_rate=0.1,
    metrics=("loss", "accuracy"),
    classes=True,
    x_shape=(28, 28, 1),
    x_dtype="float32",
    y_shape=(),
    batch_statistics=False,
    tflite=bytes(range(256)),
)
