import json
import os
import platform
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.aggregate import state_path
from aggregator.ledger_rows import RoundRow
from aggregator.records import JSON
from aggregator.runfolder import RunFolder, resolve_start, versions
from aggregator.toml import to_toml
from host.errors import ConfigError, StorageError
from host.files import file_digest


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, "run")


def row(number: int, outcome: str | None = "completed") -> RoundRow:
    return RoundRow(
        round=number,
        target=2,
        quorum=1,
        participants=3,
        accepted=2,
        bytes_up=8192,
        bytes_down=12288,
        opened_unix_s=100.0,
        closed_unix_s=None if outcome is None else 112.5,
        outcome=outcome,
        reason="target reached",
        theta=None,
        metrics={"accuracy": (9.0, 10.0), "unused": (0.0, 0.0)},
        federated=None,
    )


def test_history_has_means_of_closed_rounds(folder: RunFolder) -> None:
    folder.write_history([row(1), row(2, "abandoned"), row(3, None)])
    first, second = json.loads(folder.history.read_text())
    assert (first["round"], second["round"], second["outcome"]) == (1, 2, "abandoned")
    assert first["metrics"] == {"accuracy": 0.9}
    assert first["federated"] == {}
    assert (first["participants"], first["accepted"], first["seconds"]) == (3, 2, 12.5)
    assert (first["bytes_up"], first["bytes_down"]) == (8192, 12288)


def test_the_manifest_names_settings_and_versions(folder: RunFolder) -> None:
    folder.write_manifest({"seed": 7, "settings": {"rounds": 5, "target": None, "strategy": "fedavg"}})
    manifest = tomllib.loads(folder.manifest.read_text())
    assert manifest["seed"] == 7
    assert manifest["settings"] == {"rounds": 5, "strategy": "fedavg"}
    assert manifest["versions"] == versions()
    assert manifest["versions"]["python"] == platform.python_version()
    assert "numpy" in manifest["versions"]


def test_weights_are_found_by_their_digest_whatever_a_crash_left(folder: RunFolder) -> None:
    for number, content in ((0, b"start"), (2, b"second"), (3, b"never closed")):
        folder.theta(number).write_bytes(content)
    digest = file_digest(folder.theta(2))
    assert folder.theta_with(digest) == folder.theta(2)
    folder.theta(2).write_bytes(b"damaged")
    with pytest.raises(StorageError, match=digest):
        folder.theta_with(digest)


def saved(folder: RunFolder, number: int, content: bytes, suffix: str = ".keras") -> Path:
    path = folder.round_model(number)
    path = path.with_name(path.name + suffix)
    path.write_bytes(content)
    return path


def test_the_model_is_the_one_published_last(folder: RunFolder) -> None:
    first, second = saved(folder, 1, b"first"), saved(folder, 2, b"second")
    folder.publish_model(first)
    folder.publish_model(second)
    assert (folder.path / "model.keras").read_bytes() == b"second"
    assert first.read_bytes() == b"first"


def test_publishing_the_same_model_again_leaves_no_temporary_file(folder: RunFolder) -> None:
    model = saved(folder, 1, b"first")
    folder.publish_model(model)
    folder.publish_model(model)
    assert sorted(path.name for path in folder.path.iterdir()) == ["model.keras", "models", "theta"]


def test_a_model_without_keras_keeps_its_ending(folder: RunFolder, tmp_path: Path) -> None:
    weights = saved(folder, 1, b"weights", ".npz")
    folder.publish_model(weights)
    assert (folder.path / "model.npz").read_bytes() == b"weights"
    assert resolve_start(tmp_path, "run") == folder.path / "model.npz"
    assert resolve_start(tmp_path, str(weights)) == weights


def test_the_model_is_copied_where_links_are_not_possible(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    folder.publish_model(saved(folder, 1, b"first"))
    assert (folder.path / "model.keras").read_bytes() == b"first"


def test_pruning_keeps_the_start_and_the_newest(folder: RunFolder) -> None:
    for number in range(5):
        folder.theta(number).write_bytes(b"")
        state_path(folder.theta(number)).write_bytes(b"")
        for suffix in (".keras", ".npz"):
            saved(folder, number, b"", suffix)
        folder.confusion(number).write_bytes(b"")
    folder.prune(keep=2)
    kept = sorted(path.name for path in (folder.path / "theta").iterdir() if path.suffix == ".f32")
    assert kept == ["round-0000.f32", "round-0003.f32", "round-0004.f32"]
    assert not state_path(folder.theta(2)).exists()
    assert state_path(folder.theta(3)).exists()
    for suffix in (".keras", ".npz"):
        assert folder.round_model(4).with_suffix(suffix).exists()
        assert not folder.round_model(2).with_suffix(suffix).exists()
    assert folder.confusion(3).exists()
    assert not folder.confusion(2).exists()


def test_a_run_may_begin_from_an_earlier_run_or_a_file(folder: RunFolder, tmp_path: Path) -> None:
    model = folder.path / "model.keras"
    model.write_bytes(b"")
    assert resolve_start(tmp_path, "run") == model
    assert resolve_start(tmp_path, str(model)) == model


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("older", "run 'older' has no model"),
        ("nowhere/model.keras", "no model file"),
        ("../../etc", "run's id or the path"),
        ("model.h5", "run's id or the path"),
    ],
)
def test_a_start_that_is_not_there_is_told(tmp_path: Path, start: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve_start(tmp_path, start)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_toml_is_read_back_as_it_was_written(table: dict[str, JSON]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_toml_is_written_as_a_person_would() -> None:
    text = to_toml({"run": "r1", "tables": {"rounds": 5, "none": None, "deeper": {"names": ["a", "b"]}}})
    assert text == 'run = "r1"\n\n[tables]\nrounds = 5\n\n[tables.deeper]\nnames = ["a", "b"]\n'
