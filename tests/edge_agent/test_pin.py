import json
from pathlib import Path

import pytest

from broker.messages import Announcement
from broker.signing import Signer, succeed
from edge_agent.pin import FILE, Pin

TOPIC = "midge/v1/lab/round"
ORDER = Announcement(session=7, sequence=1)


def rotated(folder: Path) -> tuple[str, str, bytes]:
    path = folder / "signing.key"
    old = Signer(path).public_key
    _, new = succeed(path, TOPIC)
    return old, new, Signer(path).seal(TOPIC, ORDER)


def test_a_key_that_was_followed_is_kept(tmp_path: Path) -> None:
    old, new, payload = rotated(tmp_path)
    pin = Pin(old, tmp_path)
    assert pin.key == old
    pin.follow(TOPIC, payload)
    assert pin.key == new
    assert Pin(old, tmp_path).key == new


def test_another_key_in_the_settings_is_another_beginning(tmp_path: Path) -> None:
    old, _, payload = rotated(tmp_path)
    Pin(old, tmp_path).follow(TOPIC, payload)
    assert Pin("ab" * 32, tmp_path).key == "ab" * 32


def test_nothing_is_followed_where_nothing_is_pinned(tmp_path: Path) -> None:
    _, _, payload = rotated(tmp_path)
    pin = Pin(None, tmp_path)
    pin.follow(TOPIC, payload)
    assert pin.key is None
    assert not (tmp_path / FILE).exists()


def test_nothing_is_written_while_the_key_stays(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "signing.key")
    Pin(signer.public_key, tmp_path).follow(TOPIC, signer.seal(TOPIC, ORDER))
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"pinned": 1})])
def test_a_damaged_file_leaves_the_key_of_the_settings(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_text(content)
    assert Pin("ab" * 32, tmp_path).key == "ab" * 32
    assert "cannot be read" in caplog.text


def test_a_disk_without_room_does_not_keep_it_from_following(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, payload = rotated(tmp_path)
    pin = Pin(old, tmp_path / "missing")
    pin.follow(TOPIC, payload)
    assert pin.key == new
    assert "followed again after a restart" in caplog.text
