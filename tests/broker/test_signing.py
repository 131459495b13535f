import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.keyfile import make
from broker.messages import Announcement
from broker.signing import SignedAnnouncement, Signer, unseal
from broker.wire import decode, encode
from host.errors import ConfigError, ForgeryError, StorageError, WireError
from tests.broker.examples import ASSIGNMENT

TOPIC = "midge/v1/lab/round"
ORDER = Announcement(session=7, sequence=2, assignment=ASSIGNMENT)
# The first test vector of RFC 8032, section 7.1.
SECRET = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"  # noqa: S105 - published
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def of_the_rfc(folder: Path) -> Signer:
    path = folder / "signing.key"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return Signer(path)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return of_the_rfc(tmp_path_factory.mktemp("rfc"))


def test_what_was_sealed_is_read_by_who_has_the_key_and_by_who_has_none(signer: Signer) -> None:
    assert signer.public_key == PUBLIC
    for key in (PUBLIC, None):
        assert unseal(TOPIC, signer.seal(TOPIC, ORDER), key) == ORDER


def flipped(content: bytes, place: int, bits: int) -> bytes:
    changed = bytearray(content)
    changed[place % len(content)] ^= bits
    return bytes(changed)


@given(
    part=st.sampled_from(["topic", "announcement", "signature", "key"]),
    place=st.integers(0, 1 << 16),
    bits=st.integers(1, 255),
)
def test_any_byte_that_is_changed_is_noticed(signer: Signer, part: str, place: int, bits: int) -> None:
    sealed = decode(SignedAnnouncement, signer.seal(TOPIC, ORDER))
    parts = {
        "topic": TOPIC.encode(),
        "announcement": sealed.announcement,
        "signature": sealed.signature,
        "key": bytes.fromhex(PUBLIC),
    }
    # A topic is ASCII: what the broker hands on is text.
    parts[part] = flipped(parts[part], place, bits & 0x7F or 1 if part == "topic" else bits)
    payload = encode(SignedAnnouncement(announcement=parts["announcement"], signature=parts["signature"]))
    with pytest.raises(ForgeryError, match="not signed with the pinned aggregator_key"):
        unseal(parts["topic"].decode(), payload, parts["key"].hex())


@pytest.mark.parametrize("key", [PUBLIC, None], ids=["pinned", "not pinned"])
def test_what_is_not_sealed_or_holds_no_announcement_is_refused(signer: Signer, key: str | None) -> None:
    with pytest.raises(WireError, match="announcement: Field required"):
        unseal(TOPIC, encode(ORDER), key)
    for signature in (b"", bytes(63), bytes(65)):
        sealed = SignedAnnouncement.model_construct(minor=0, announcement=encode(ORDER), signature=signature)
        with pytest.raises(WireError, match="signature: Data should have"):
            unseal(TOPIC, encode(sealed), key)
    nonsense = ORDER.model_copy(update={"session": -1})
    with pytest.raises(WireError, match="session: Input should be greater"):
        unseal(TOPIC, signer.seal(TOPIC, nonsense), key)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "signing.key"
    before = os.umask(0)
    try:
        first = Signer(path).public_key
    finally:
        os.umask(before)
    assert Signer(path).public_key == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["signing.key"]
    assert Signer(tmp_path / "other.key").public_key != first


def test_a_key_that_another_process_makes_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first = Signer(path).public_key
    make(path, "signing key")
    assert Signer(path).public_key == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["signing.key"]


@pytest.mark.parametrize("content", ["", "not a key", "ab" * 31, "ab" * 33, "\xe9" * 64])
def test_a_damaged_key_is_an_error_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "signing.key"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"signing\.key cannot be used: it holds no key; restore it"):
        Signer(path)


def test_a_folder_that_takes_no_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made"):
        Signer(Path("/proc/nowhere/signing.key"))
    (tmp_path / "signing.key").mkdir()
    with pytest.raises(ConfigError, match="cannot be used: Is a directory"):
        Signer(tmp_path / "signing.key")


def test_a_key_that_others_can_read_is_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_the_rfc(tmp_path)
    assert caplog.text == ""
    (tmp_path / "signing.key").chmod(0o640)
    Signer(tmp_path / "signing.key")
    assert "chmod 600" in caplog.text


WITHOUT_A_KEY = """
import sys
from broker.keyfile import make
from broker.messages import Announcement
from broker.signing import SignedAnnouncement
from broker.signing import unseal
from broker.wire import encode
content = encode(Announcement(session=1, sequence=1))
unseal("topic", encode(SignedAnnouncement(announcement=content, signature=bytes(64))), None)
print("cryptography" in sys.modules)
"""


def test_cryptography_is_not_loaded_before_a_key_is_used() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WITHOUT_A_KEY]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
