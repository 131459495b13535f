import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.download import Download, Step
from broker.messages import BlobRef
from tests.broker.examples import DIGEST


def ref_of(chunks: int) -> BlobRef:
    return BlobRef(digest=DIGEST, size=1024 * chunks, chunk_bytes=1024)


def test_the_window_moves_by_half() -> None:
    download = Download(ref_of(10), bytes(10), window=4)
    assert download.start() == Step(subscribe=(0, 1, 2, 3))
    assert download.received(1) == Step()
    assert not download.complete
    assert download.received(0) == Step(subscribe=(4, 5), unsubscribe=(1, 0))
    assert download.received(2) == Step()
    assert download.received(5) == Step(subscribe=(6, 7), unsubscribe=(2, 5))


def test_what_is_here_already_is_not_asked_for() -> None:
    download = Download(ref_of(5), bytes([1, 0, 1, 0, 1]), window=4)
    assert download.start() == Step(subscribe=(1, 3))


def test_the_end_unsubscribes_everything() -> None:
    download = Download(ref_of(3), bytes(3), window=4)
    download.start()
    assert download.received(0) == Step()
    assert download.received(2) == Step()
    assert download.received(1) == Step(unsubscribe=(0, 2, 1))
    assert download.complete
    assert download.subscribed == ()


def test_a_stalled_download_asks_again_for_what_is_outstanding() -> None:
    download = Download(ref_of(6), bytes(6), window=4)
    download.start()
    download.received(2)
    assert download.stalled() == Step(subscribe=(0, 1, 3), unsubscribe=(2,))
    assert download.stalled() == Step(subscribe=(0, 1, 3))


def test_start_after_a_new_connect_begins_with_the_first_missing() -> None:
    download = Download(ref_of(6), bytes(6), window=4)
    download.start()
    download.received(1)
    download.received(0)
    assert download.start() == Step(subscribe=(2, 3, 4, 5))


def test_a_chunk_that_comes_twice_changes_nothing() -> None:
    download = Download(ref_of(6), bytes(6), window=4)
    download.start()
    download.received(0)
    assert download.received(0) == Step()
    assert download.subscribed == (1, 2, 3, 0)


def test_a_complete_blob_asks_for_nothing() -> None:
    download = Download(ref_of(2), b"\x01\x01")
    assert download.complete
    assert download.start() == Step()


def test_a_bitmap_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a bitmap of 3 chunks for a blob of 2"):
        Download(ref_of(2), bytes(3))


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one chunk"):
        Download(ref_of(2), bytes(2), window=0)


@given(chunks=st.integers(1, 40), window=st.integers(1, 10), data=st.data())
def test_every_chunk_is_fetched_once_within_the_window_whatever_gets_lost(
    chunks: int, window: int, data: st.DataObject
) -> None:
    bitmap = bytes(data.draw(st.lists(st.integers(0, 1), min_size=chunks, max_size=chunks)))
    download = Download(ref_of(chunks), bitmap, window)
    subscribed: set[int] = set()
    pending: list[int] = []
    fetched: list[int] = []

    def follow(step: Step) -> None:
        subscribed.difference_update(step.unsubscribe)
        subscribed.update(step.subscribe)
        pending.extend(step.subscribe)
        assert subscribed == set(download.subscribed)
        assert len(subscribed) <= 2 * window

    follow(download.start())
    while not download.complete:
        if not pending:
            follow(download.stalled())
        index = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
        if pending and data.draw(st.integers(0, 9)) == 0:
            continue  # lost
        if index not in fetched:
            fetched.append(index)
        follow(download.received(index))
    assert sorted(fetched) == [index for index in range(chunks) if not bitmap[index]]
    assert not subscribed
