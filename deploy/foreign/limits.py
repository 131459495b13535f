"""Whether a broker carries models: chunks of their size, retained, several at a time, only for a while."""

import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from broker.events import BrokerLimits, Received
from broker.topics import BLOB_CHUNK, Role, Topics
from deploy.foreign.account import Account
from deploy.foreign.finding import Check, Finding, Verdict
from edge_agent.downloads import window_for

# Of a chunk's packet: topic and properties.
OVERHEAD_BYTES = 1 << 10
KEPT_S = 60
SHORT_S = 1
ARRIVES_S = 5.0
# No version of midge is older; what shows an earlier date was never set.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


def look_at_clock(now: datetime) -> Finding:
    """Whether this machine's clock was ever set."""
    if now < EARLIEST:
        text = f"this machine says {now:%Y-%m-%d}: certificates look as if not valid yet; set its clock"
        return Finding("broker", Check.CLOCK, Verdict.WRONG, text)
    return Finding("broker", Check.CLOCK, Verdict.OK, f"this machine says {now:%Y-%m-%d %H:%M} UTC")


def look_at_limits(limits: BrokerLimits, chunk_bytes: int) -> Iterator[Finding]:
    """What the broker says of itself."""
    told = (
        (Check.QOS, limits.max_qos >= 1, "messages are acknowledged", "allow QoS 1: max_qos 1 or 2"),
        (Check.RETAINED, limits.retains, "the broker keeps them", "allow them: retain_available true"),
    )
    for check, fine, good, cure in told:
        verdict = Verdict.OK if fine else Verdict.WRONG
        yield Finding("broker", check, verdict, good if fine else f"the broker does not do that; {cure}")
    most, needed = limits.max_packet_bytes, chunk_bytes + OVERHEAD_BYTES
    if most is not None and most < needed:
        text = (
            f"{most:,} bytes at most, {needed:,} are needed; raise max_packet_size, or lower chunk_bytes of "
            f"the aggregator to {max(1024, most - OVERHEAD_BYTES) // 1024 * 1024}"
        )
        yield Finding("broker", Check.PACKET, Verdict.WRONG, text)
    else:
        at_most = "any" if most is None else f"{most:,} bytes at most"
        yield Finding("broker", Check.PACKET, Verdict.OK, f"{at_most}, {needed:,} are needed")


def try_chunks(accounts: Sequence[Account], topics: Topics, chunk_bytes: int) -> Iterator[Finding]:
    """Have the aggregator retain a window of chunks, and a device fetch them as it fetches a model."""
    by_role = {account.role: account for account in accounts}
    writer, reader = by_role.get(Role.AGGREGATOR), by_role.get(Role.DEVICE)
    if writer is None or reader is None:
        text = "not tried: give the settings of the aggregator and of a device"
        yield Finding("broker", Check.QUEUE, Verdict.UNKNOWN, text)
        return
    digest = secrets.token_hex(32)
    chunks = [
        topics.topic(BLOB_CHUNK, digest=digest, index=index) for index in range(window_for(chunk_bytes))
    ]
    try:
        yield _stored(writer, chunks, chunk_bytes)
        yield _fetched(reader, chunks)
        yield _expired(writer, reader, chunks[0])
    finally:
        for chunk in chunks:
            writer.publish(chunk, retain=True)


def _stored(writer: Account, chunks: Sequence[str], chunk_bytes: int) -> Finding:
    for chunk in chunks:
        answer = writer.publish(chunk, secrets.token_bytes(chunk_bytes), retain=True, expiry_s=KEPT_S)
        if not answer.taken:
            text = (
                f"a chunk of {chunk_bytes:,} bytes is not taken: {answer.reason}; look at the broker's "
                "limits of a packet and at the aggregator's rights, or lower chunk_bytes"
            )
            return Finding(Role.AGGREGATOR, Check.PACKET, Verdict.WRONG, text)
    return Finding(Role.AGGREGATOR, Check.PACKET, Verdict.OK, f"chunks of {chunk_bytes:,} bytes are taken")


def _fetched(reader: Account, chunks: Sequence[str]) -> Finding:
    arrived = _arrivals(reader, chunks)
    if len(arrived) < len(chunks):
        text = (
            f"of {len(chunks)} retained chunks asked for at once {len(arrived)} came: the broker drops what "
            "its queue for a client does not hold; raise max_queued_messages, max_queued_bytes and "
            "max_inflight_messages, or lower chunk_bytes"
        )
        return Finding(Role.DEVICE, Check.QUEUE, Verdict.WRONG, text)
    if not all(message.expiry_s for message in arrived.values()):
        text = "comes without the time that is left; the broker has to pass on MQTT 5's message expiry"
        return Finding("broker", Check.EXPIRY, Verdict.WRONG, text)
    return Finding(Role.DEVICE, Check.QUEUE, Verdict.OK, f"{len(chunks)} retained chunks come at once")


def _expired(writer: Account, reader: Account, chunk: str) -> Finding:
    writer.publish(chunk, b"short-lived", retain=True, expiry_s=SHORT_S)
    time.sleep(SHORT_S + 1.0)
    if b"short-lived" in {message.payload for message in _arrivals(reader, [chunk], 0.5).values()}:
        text = "what is past its expiry still comes; the broker has to keep MQTT 5's message expiry"
        return Finding("broker", Check.EXPIRY, Verdict.WRONG, text)
    return Finding("broker", Check.EXPIRY, Verdict.OK, "what is past its time is forgotten")


def _arrivals(reader: Account, chunks: Sequence[str], for_s: float = ARRIVES_S) -> dict[str, Received]:
    reader.received.clear()
    reader.subscribe(chunks)
    wanted = set(chunks)

    def found() -> dict[str, Received]:
        return {m.topic: m for m in reader.received if m.topic in wanted and m.retained and m.payload}

    reader.listen(for_s, lambda: len(found()) == len(wanted))
    return found()
