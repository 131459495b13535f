import csv
from pathlib import Path

import numpy as np
import pytest

from broker.contract import DataContract
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.shares import Share, Shares, Source
from edge_agent.data.source import load
from host.errors import ConfigError, DataError

CONTRACT = DataContract(shape=(2,), dtype="float32", classes=("cat", "dog"))
PEOPLE = ("ann", "bob", "ann", "eve", "bob", "ann")
ROWS = [
    (float(number), -float(number), who, "cat" if number % 2 else "dog") for number, who in enumerate(PEOPLE)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "steps.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("left", "right", "person", "animal"), *ROWS])
    return path


def dealt(source: Source, partition: str, devices: int | None, folder: Path) -> list[Share]:
    return Shares(source, Partition.parse(partition), devices, CONTRACT).write(0, folder / "shares")


def test_a_column_of_a_table_cuts_it_and_is_no_input(table: Path, tmp_path: Path) -> None:
    shares = dealt(Source(table), "column:person", None, tmp_path)
    assert [share.device for share in shares] == ["pi-1", "pi-2", "pi-3"]
    assert [share.examples for share in shares] == [3, 2, 1]
    assert shares[1].labels == {"cat": 1, "dog": 1}
    bobs = load(shares[1].data, CONTRACT)
    assert bobs.x.tolist() == [[1, -1], [4, -4]]
    assert bobs.y.tolist() == [0, 1]


def test_an_array_of_an_npz_file_cuts_it(tmp_path: Path) -> None:
    path = tmp_path / "steps.npz"
    np.savez(path, x=np.eye(6, 2), y=np.arange(6) % 2, train=np.array([7, 9, 7, 9, 9, 9]))
    shares = dealt(Source(path), "column:train", None, tmp_path)
    assert [share.examples for share in shares] == [2, 4]
    assert load(shares[0].data, CONTRACT).x.tolist() == [[1, 0], [0, 0]]


def test_a_settings_file_says_where_the_data_lies(table: Path, tmp_path: Path) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text(
        f'device = "pi-1"\n[data]\nkind = "csv"\npath = "{table}"\ntarget = "animal"\n'
        'columns = ["right", "left"]\n'
    )
    (share,) = dealt(Source(settings), "iid", 1, tmp_path)
    assert load(share.data, CONTRACT).x.tolist() == [[-row[0], row[0]] for row in ROWS]


def test_a_column_that_is_not_there_is_told(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'who'"):
        dealt(Source(table), "column:who", None, tmp_path)


def test_a_column_of_vectors_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.eye(6, 2), y=np.arange(6) % 2)
    with pytest.raises(DataError, match="array 'x' has 2 dimensions, not one"):
        dealt(Source(tmp_path / "a.npz"), "column:x", None, tmp_path)


@pytest.mark.parametrize("partition", ["column:person", "iid"])
def test_images_have_no_columns(tmp_path: Path, partition: str) -> None:
    from PIL import Image  # noqa: PLC0415 - for this test only

    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "images" / name / "1.png")
    contract = DataContract(shape=(4, 4), dtype="uint8", classes=("cat", "dog"))
    target = None if partition != "iid" else "animal"
    with pytest.raises(ConfigError, match=r"has no columns|no CSV file"):
        Shares(Source(tmp_path / "images", target), Partition.parse(partition), 2, contract)
