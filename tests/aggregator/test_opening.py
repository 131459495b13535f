from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from aggregator.aggregate import SpooledUpdate, aggregate
from aggregator.opening import Opening
from aggregator.strategies.fedavg import FedAvg
from broker.layout import Layout
from broker.sealing import SealingKey, context_of, seal_update
from broker.topics import Topics
from broker.update import DELTA, encode_update
from host.errors import SealError

TOPICS = Topics("lab")
LAYOUT = Layout(trainable=((3,),))


@pytest.fixture
def key(tmp_path: Path) -> SealingKey:
    return SealingKey(tmp_path / "sealing.key")


def write(path: Path, key: SealingKey, device: str, value: float) -> Path:
    parts = encode_update(LAYOUT.digest, {DELTA: np.full(3, value, np.float32)})
    context = context_of(TOPICS, "run-a", 1, device)
    path.write_bytes(b"".join(seal_update(parts, key.public_key, context)))
    return path


def test_an_update_is_readable_only_while_it_is_looked_at(tmp_path: Path, key: SealingKey) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    path = write(spool / "pi-1.update", key, "pi-1", 0.5)
    sealed = path.read_bytes()
    with Opening(TOPICS, key, required=True).opened(path, "run-a", 1, "pi-1") as readable:
        assert readable.read_bytes().startswith(b"midge1")
        assert readable.stat().st_mode & 0o077 == 0
    assert [*spool.iterdir()] == [path]
    assert path.read_bytes() == sealed


def test_what_does_not_open_leaves_nothing_readable_behind(tmp_path: Path, key: SealingKey) -> None:
    path = write(tmp_path / "pi-1.update", key, "pi-1", 0.5)
    opening, before = Opening(TOPICS, key, required=True), {*tmp_path.iterdir()}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SealError), opening.opened(path, "run-a", 1, "pi-1"):
        pass
    assert {*tmp_path.iterdir()} == before


def test_one_that_is_not_sealed_is_refused_only_where_it_must_be(tmp_path: Path, key: SealingKey) -> None:
    path = tmp_path / "pi-1.update"
    path.write_bytes(b"midge1 and so on")
    with Opening(TOPICS, key, required=False).opened(path, "run-a", 1, "pi-1") as readable:
        assert readable == path
    with (
        pytest.raises(SealError, match="is not sealed"),
        Opening(TOPICS, key, required=True).opened(path, "run-a", 1, "pi-1"),
    ):
        pass


def test_one_that_is_sealed_is_refused_where_there_is_no_key(tmp_path: Path, key: SealingKey) -> None:
    path = write(tmp_path / "pi-1.update", key, "pi-1", 0.5)
    with (
        pytest.raises(SealError, match=r"no sealing\.key"),
        Opening(TOPICS, None, required=False).opened(path, "run-a", 1, "pi-1"),
    ):
        pass


def test_sealed_and_other_updates_are_aggregated_together(tmp_path: Path, key: SealingKey) -> None:
    theta, opening = tmp_path / "theta.f32", Opening(TOPICS, key, required=False)
    np.zeros(3, np.float32).tofile(theta)
    sealed = SpooledUpdate("pi-1", write(tmp_path / "pi-1.update", key, "pi-1", 1.0), 10, {}, 1)
    plain = tmp_path / "pi-2.update"
    plain.write_bytes(b"".join(encode_update(LAYOUT.digest, {DELTA: np.full(3, 4.0, np.float32)})))
    updates = [sealed, SpooledUpdate("pi-2", plain, 20, {}, 1)]
    out = tmp_path / "next.f32"

    def opened(one: SpooledUpdate) -> AbstractContextManager[Path]:
        return opening.opened(one.path, "run-a", one.round, one.device)

    aggregate(FedAvg(), LAYOUT, theta, updates, out, opened)
    assert np.fromfile(out, "<f4").tolist() == [3.0, 3.0, 3.0]
