from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.envelope import DeviceKey, Envelope, disclose
from broker.messages import BlobRef, Offer, Report
from broker.sealing import SealingKey
from broker.wire import decode, encode
from host.errors import ForgeryError, SealError, WireError

TOPIC = "midge/v1/lab/devices/pi-1/offer"
OFFER = Offer(
    run="run-a",
    round=3,
    update=BlobRef(digest="ab" * 32, size=5000, chunk_bytes=1024),
    examples=4711,
    metrics={"accuracy": (12.0, 60.0)},
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[DeviceKey, SealingKey]:
    folder = tmp_path_factory.mktemp("keys")
    return DeviceKey(folder / "device.key"), SealingKey(folder / "sealing.key")


Keys = tuple[DeviceKey, SealingKey]


def test_the_aggregator_reads_it_and_knows_whose_key_signed_it(keys: Keys) -> None:
    device, aggregator = keys
    payload = device.enclose(TOPIC, OFFER, aggregator.public_key)
    assert b"accuracy" not in payload
    assert OFFER.update.digest.encode() not in payload
    assert disclose(Offer, TOPIC, payload, aggregator) == (device.public_key, OFFER)


@pytest.mark.parametrize(
    "topic",
    [
        "midge/v1/lab/devices/pi-2/offer",
        "midge/v1/other/devices/pi-1/offer",
        "midge/v1/lab/devices/pi-1/report",
    ],
)
def test_on_another_topic_it_is_a_forgery(keys: Keys, topic: str) -> None:
    device, aggregator = keys
    with pytest.raises(ForgeryError, match="for another topic"):
        disclose(Offer, topic, device.enclose(TOPIC, OFFER, aggregator.public_key), aggregator)


def test_another_device_cannot_put_its_own_signature_under_it(keys: Keys, tmp_path: Path) -> None:
    device, aggregator = keys
    thief = DeviceKey(tmp_path / "device.key")
    stolen = decode(Envelope, device.enclose(TOPIC, OFFER, aggregator.public_key))
    own = decode(Envelope, thief.enclose(TOPIC, OFFER, aggregator.public_key))
    signature = thief._key.sign(b"\0".join((b"midge envelope 1", TOPIC.encode(), stolen.sealed)))
    resigned = Envelope(device_key=own.device_key, sealed=stolen.sealed, signature=signature)
    with pytest.raises(SealError):
        disclose(Offer, TOPIC, encode(resigned), aggregator)


def test_only_the_aggregator_opens_it(keys: Keys, tmp_path: Path) -> None:
    device, aggregator = keys
    payload = device.enclose(TOPIC, OFFER, aggregator.public_key)
    with pytest.raises(SealError):
        disclose(Offer, TOPIC, payload, SealingKey(tmp_path / "sealing.key"))


@given(place=st.integers(0, 1 << 12), bits=st.integers(1, 255))
def test_any_byte_that_is_changed_is_noticed(keys: Keys, place: int, bits: int) -> None:
    device, aggregator = keys
    payload = bytearray(device.enclose(TOPIC, OFFER, aggregator.public_key))
    payload[place % len(payload)] ^= bits
    # Only the minor version is neither sealed nor signed.
    try:
        told = disclose(Offer, TOPIC, bytes(payload), aggregator)
    except WireError:
        return
    assert told == (device.public_key, OFFER)


@pytest.mark.parametrize("message", [OFFER, Report(run="run-a", round=3)], ids=["bare", "of another kind"])
def test_what_is_not_enclosed_or_of_another_kind_is_refused(keys: Keys, message: Offer | Report) -> None:
    device, aggregator = keys
    bare = message is OFFER
    payload = encode(message) if bare else device.enclose(TOPIC, message, aggregator.public_key)
    with pytest.raises(WireError, match="device_key: Field required" if bare else "update: Field required"):
        disclose(Offer, TOPIC, payload, aggregator)
