from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.letters import DeviceKeys, Letters
from broker.envelope import DeviceKey
from broker.messages import BlobRef, Offer, Presence
from broker.sealing import SealingKey
from broker.wire import encode
from host.errors import ForgeryError, SealError, WireError

TOPIC, BIRTHS = "midge/v1/lab/devices/pi-1/offer", "midge/v1/lab/devices/pi-1/presence"
OFFER = Offer(run="run-a", round=1, update=BlobRef(digest="ab" * 32, size=9, chunk_bytes=1024), examples=5)
BIRTH = Presence(online=True, connection="a" * 16, examples=77, tags=("indoor",))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def key(tmp_path: Path) -> SealingKey:
    return SealingKey(tmp_path / "sealing.key")


@pytest.fixture
def device(tmp_path: Path) -> DeviceKey:
    return DeviceKey(tmp_path / "device.key")


def enclosed(device: DeviceKey, key: SealingKey) -> bytes:
    return device.enclose(TOPIC, OFFER, key.public_key)


def test_the_first_key_of_a_device_is_its_own_also_after_a_restart(
    ledger: Ledger, key: SealingKey, device: DeviceKey, tmp_path: Path
) -> None:
    letters = Letters(key, DeviceKeys(ledger, {}))
    assert letters.read(Offer, TOPIC, "pi-1", enclosed(device, key)) == OFFER
    assert ledger.device_keys() == {"pi-1": device.public_key}
    stranger = DeviceKey(tmp_path / "stranger.key")
    for heard in (letters, Letters(key, DeviceKeys(ledger, {}))):
        with pytest.raises(ForgeryError, match=f"{stranger.public_key}, and pi-1 is known by"):
            heard.read(Offer, TOPIC, "pi-1", enclosed(stranger, key))
        assert heard.read(Offer, TOPIC, "pi-1", enclosed(device, key)) == OFFER


def test_a_key_in_the_settings_goes_before_that_in_the_ledger(
    ledger: Ledger, key: SealingKey, device: DeviceKey, tmp_path: Path
) -> None:
    Letters(key, DeviceKeys(ledger, {})).read(Offer, TOPIC, "pi-1", enclosed(device, key))
    renewed = DeviceKey(tmp_path / "renewed.key")
    letters = Letters(key, DeviceKeys(ledger, {"pi-1": renewed.public_key}))
    assert letters.read(Offer, TOPIC, "pi-1", enclosed(renewed, key)) == OFFER
    with pytest.raises(ForgeryError):
        letters.read(Offer, TOPIC, "pi-1", enclosed(device, key))


def test_a_device_whose_key_is_forgotten_is_known_by_its_next_one_unless_the_settings_name_it(
    ledger: Ledger, key: SealingKey, device: DeviceKey, tmp_path: Path
) -> None:
    renewed = DeviceKey(tmp_path / "renewed.key")
    keys, fixed = DeviceKeys(ledger, {}), DeviceKeys(ledger, {"pi-1": device.public_key})
    Letters(key, keys).read(Offer, TOPIC, "pi-1", enclosed(device, key))
    for known in (keys, fixed):
        known.forget("pi-1")
    assert Letters(key, keys).read(Offer, TOPIC, "pi-1", enclosed(renewed, key)) == OFFER
    for known, stranger in ((keys, device), (fixed, renewed)):
        with pytest.raises(ForgeryError, match="midge admit pi-1"):
            Letters(key, known).read(Offer, TOPIC, "pi-1", enclosed(stranger, key))


def test_what_does_not_open_makes_nobody_known(
    ledger: Ledger, key: SealingKey, device: DeviceKey, tmp_path: Path
) -> None:
    letters = Letters(key, DeviceKeys(ledger, {}))
    with pytest.raises(SealError):
        letters.read(Offer, TOPIC, "pi-1", enclosed(device, SealingKey(tmp_path / "other.key")))
    assert ledger.device_keys() == {}


def test_what_should_be_sealed_and_is_not_is_refused_and_the_other_way_round(
    ledger: Ledger, key: SealingKey, device: DeviceKey
) -> None:
    devices = DeviceKeys(ledger, {})
    with pytest.raises(WireError, match="device_key: Field required"):
        Letters(key, devices).read(Offer, TOPIC, "pi-1", encode(OFFER))
    open_ = Letters(None, devices)
    assert open_.read(Offer, TOPIC, "pi-1", encode(OFFER)) == OFFER
    with pytest.raises(WireError, match="run: Field required"):
        open_.read(Offer, TOPIC, "pi-1", enclosed(device, key))


def test_of_a_birth_only_what_is_sealed_counts(ledger: Ledger, key: SealingKey, device: DeviceKey) -> None:
    letters = Letters(key, DeviceKeys(ledger, {}))
    bare = Presence(online=True, connection=BIRTH.connection)
    assert letters.presence(BIRTHS, "pi-1", encode(BIRTH)) == bare
    sealed = device.enclose(BIRTHS, BIRTH, key.public_key)
    whole = bare.model_copy(update={"sealed": sealed})
    assert letters.presence(BIRTHS, "pi-1", encode(whole)) == BIRTH
    death = Presence(online=False, connection=BIRTH.connection)
    assert letters.presence(BIRTHS, "pi-1", encode(death)) == death
    assert Letters(None, DeviceKeys(ledger, {})).presence(BIRTHS, "pi-1", encode(BIRTH)) == BIRTH


def test_an_old_birth_is_not_taken_for_that_of_another_connection(
    ledger: Ledger, key: SealingKey, device: DeviceKey
) -> None:
    sealed = device.enclose(BIRTHS, BIRTH, key.public_key)
    replayed = Presence(online=True, connection="b" * 16, sealed=sealed)
    with pytest.raises(SealError, match="of another connection"):
        Letters(key, DeviceKeys(ledger, {})).presence(BIRTHS, "pi-1", encode(replayed))


def test_a_ledger_that_cannot_keep_a_key_leaves_the_device_to_say_it_again(
    ledger: Ledger, key: SealingKey, device: DeviceKey
) -> None:
    letters = Letters(key, DeviceKeys(ledger, {}))
    ledger._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(WireError, match="the device's key cannot be kept now"):
        letters.read(Offer, TOPIC, "pi-1", enclosed(device, key))
    ledger._connection.execute("PRAGMA query_only = OFF")
    assert letters.read(Offer, TOPIC, "pi-1", enclosed(device, key)) == OFFER
