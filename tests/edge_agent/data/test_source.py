import gzip
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broker.contract import DataContract
from edge_agent.data.examples import Inspection
from edge_agent.data.fit import ContractError
from edge_agent.data.settings import CsvSettings, DataSettings, IdxSettings, ImageFolderSettings, NpzSettings
from edge_agent.data.source import fingerprint, inspect, load
from host.errors import DataError

SHARED = Path(__file__).parents[3].parent / "shared/data"
AB = DataContract(shape=(2,), classes=("a", "b"))
REGRESSION = DataContract(shape=(2,))
X = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
Y = np.array([0, 1, 1], np.int64)
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def npz(folder: Path, **arrays: Any) -> NpzSettings:  # noqa: ANN401
    path = folder / "data.npz"
    np.savez(path, **(arrays or {"x": X, "y": Y}))
    return NpzSettings(path=path)


def idx_bytes(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx(folder: Path, images: bytes | None = None, *, zipped: bool = False) -> IdxSettings:
    pack = gzip.compress if zipped else bytes
    end = ".gz" if zipped else ""
    x = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    (folder / f"{IMAGES}{end}").write_bytes(pack(idx_bytes(x) if images is None else images))
    (folder / f"{LABELS}{end}").write_bytes(pack(idx_bytes(Y.astype(np.uint8))))
    return IdxSettings(path=folder)


def table(folder: Path, text: str, **options: Any) -> CsvSettings:  # noqa: ANN401
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return CsvSettings.model_validate({"path": path, "target": "kind"} | options)


def pictures(folder: Path, colours: dict[str, tuple[int, int, int]], size: tuple[int, int] = (4, 2)) -> Path:
    for name, colour in colours.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size, colour).save(folder / name)
    return folder


def test_npz_is_loaded_and_inspected(tmp_path: Path) -> None:
    settings = npz(tmp_path)
    examples = load(settings, AB)
    assert examples.x.tolist() == X.tolist()
    assert examples.y.tolist() == [0, 1, 1]
    assert inspect(settings) == Inspection(3, (2,), {"0": 1, "1": 2})


def test_npz_of_a_regression_has_no_label_counts(tmp_path: Path) -> None:
    settings = npz(tmp_path, x=X, y=np.array([0.5, 1.5, 2.5]))
    assert load(settings, REGRESSION).y.tolist() == [0.5, 1.5, 2.5]
    assert inspect(settings).labels == {}


def test_npz_objects_are_never_unpickled(tmp_path: Path) -> None:
    settings = npz(tmp_path, x=np.array([{}, {}, {}]), y=Y)
    with pytest.raises(DataError, match="Python objects"):
        load(settings, AB)


def test_npz_without_the_array_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no array 'x' in it; it has: images, y"):
        load(npz(tmp_path, images=X, y=Y), AB)


def test_npz_header_that_claims_too_much_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2)}
    )
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(DataError, match="max_bytes allows"):
        load(NpzSettings(path=tmp_path / "data.npz"), AB)


def test_npz_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, X)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue()[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        load(NpzSettings(path=tmp_path / "data.npz"), AB)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04broken"])
def test_npz_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz"):
        load(NpzSettings(path=tmp_path / "data.npz"), AB)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_is_loaded_and_inspected(tmp_path: Path, zipped: bool) -> None:  # noqa: FBT001
    settings = idx(tmp_path, zipped=zipped)
    examples = load(settings, DataContract(shape=(2, 2, 1), dtype="uint8", classes=("a", "b")))
    assert examples.x.dtype == np.uint8
    assert examples.x.ravel().tolist() == list(range(12))
    assert inspect(settings) == Inspection(3, (2, 2), {"0": 1, "1": 2})


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x08\x03\0\0", "ends in its header"),
        (b"\0\0\x08\x01\0\0\0\x09abc", "fewer bytes"),
        (b"\0\0\x08\x01\0\0\0\x01abc", "more bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "max_bytes allows"),
        (b"\x89PNG....", "no IDX file"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_is_refused(tmp_path: Path, images: bytes, complaint: str, zipped: bool) -> None:  # noqa: FBT001
    with pytest.raises(DataError, match=complaint):
        load(idx(tmp_path, images, zipped=zipped), AB)


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    settings = idx(tmp_path, zipped=True)
    for damaged in (b"no gzip", (tmp_path / f"{IMAGES}.gz").read_bytes()[:-12]):
        (tmp_path / f"{IMAGES}.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="damaged gzip"):
            load(settings, AB)


def test_csv_is_loaded_and_inspected(tmp_path: Path) -> None:
    settings = table(tmp_path, "\ufeffu;kind;v\n1;a;2\n3;b;4e0\n\n5;b;6\n", delimiter=";")
    examples = load(settings, AB)
    assert examples.x.tolist() == X.tolist()
    assert examples.y.tolist() == [0, 1, 1]
    assert inspect(settings) == Inspection(3, (2,), {"a": 1, "b": 2})


def test_csv_columns_are_taken_in_the_order_of_the_setting(tmp_path: Path) -> None:
    settings = table(tmp_path, "u,kind,v,note\n1,a,2,hello\n", columns=("v", "u"))
    assert load(settings, AB).x.tolist() == [[2, 1]]


def test_csv_of_a_regression_has_numbers_as_targets(tmp_path: Path) -> None:
    settings = table(tmp_path, "u,v,kind\n1,2,0.25\n3,4,7\n")
    assert load(settings, REGRESSION).y.tolist() == [0.25, 7]
    assert inspect(settings).labels == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty; a header"),
        ("u,v,kind\n", "no example"),
        ("u,v\n1,2\n", "no column 'kind'"),
        ("kind\na\n", "no column besides"),
        ("u,u,kind\n1,2,a\n", "one name"),
        ("u,v,kind\n1,2\n", "row 2: 2 fields"),
        ("u,v,kind\n1,2,a\n1,x,a\n", "row 3, column 'v': 'x' is no number"),
        ("u,v,kind\n1,,a\n", "'' is no number"),
        ("u,v,kind\n1,nan,a\n", "not finite"),
        ('u,v,kind\n"1,2,a\n', "no valid CSV"),
        (f"u,v,kind\n1,2,{'a' * 65}\n", "label of 65 characters"),
        ("u,v,kind\n1,2,c\n", "label 'c' is none of the task's classes"),
    ],
)
def test_wrong_csv_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load(table(tmp_path, text), AB)


def test_csv_that_is_not_utf8_or_too_large_is_refused(tmp_path: Path) -> None:
    settings = table(tmp_path, "u,v,kind\n1,2,a\n")
    settings.path.write_bytes(b"u,v,kind\n1,2,\xff\n")
    with pytest.raises(DataError, match="no valid CSV in UTF-8"):
        load(settings, AB)
    with pytest.raises(DataError, match="max_bytes allows 8"):
        load(settings.model_copy(update={"max_bytes": 8}), AB)


def test_images_are_loaded_by_class_name_in_a_stable_order_and_resized(tmp_path: Path) -> None:
    folder = pictures(tmp_path, {"b/2.png": (9, 9, 9), "b/1.png": (5, 5, 5), "a/9.png": (200, 200, 200)})
    (folder / "b" / ".hidden").write_text("left out")
    settings = ImageFolderSettings(path=folder)
    contract = DataContract(shape=(3, 5, 1), classes=("c", "b", "a"))
    examples = load(settings, contract)
    assert examples.x.dtype == np.float32
    assert [sorted(set(image.ravel().tolist())) for image in examples.x] == [[200], [5], [9]]
    assert examples.y.tolist() == [2, 1, 1]
    assert inspect(settings) == Inspection(3, (2, 4), {"a": 1, "b": 2})


def test_colour_images_keep_height_width_channels(tmp_path: Path) -> None:
    settings = ImageFolderSettings(path=pictures(tmp_path, {"a/1.png": (1, 2, 3)}), mode="RGB")
    x = load(settings, DataContract(shape=(2, 4, 3), dtype="uint8", classes=("a",))).x
    assert x.tolist() == [[[[1, 2, 3]] * 4] * 2]


@pytest.mark.parametrize(
    ("contract", "complaint"),
    [
        (DataContract(shape=(2, 4), classes=("b",)), "'a' is none of the task's classes"),
        (DataContract(shape=(2, 4, 3), classes=("a",)), "set `mode`"),
        (DataContract(shape=(9,), classes=("a",)), "8 values"),
        (DataContract(shape=(2, 4)), "has no classes"),
    ],
)
def test_images_that_do_not_fit_the_contract_are_refused(
    tmp_path: Path, contract: DataContract, complaint: str
) -> None:
    settings = ImageFolderSettings(path=pictures(tmp_path, {"a/1.png": (1, 2, 3)}))
    with pytest.raises(ContractError, match=complaint):
        load(settings, contract)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    settings = ImageFolderSettings(path=pictures(tmp_path, {"a/1.png": (1, 2, 3)}))
    whole = (tmp_path / "a/1.png").read_bytes()
    for content in (b"text", whole[: len(whole) // 2]):
        (tmp_path / "a/2.png").write_bytes(content)
        with pytest.raises(DataError, match=r"2\.png: no image"):
            load(settings, DataContract(shape=(2, 4), classes=("a",)))


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")  # as in the agent
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ImageFolderSettings(path=pictures(tmp_path, {"a/1.png": (0, 0, 0)}, size=(40, 40)))
    contract = DataContract(shape=(2, 4), classes=("a",))
    with pytest.raises(DataError, match="max_bytes allows 1000"):
        load(settings.model_copy(update={"max_bytes": 1000}), contract)
    for pixels in (1000, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
        with pytest.raises(DataError, match="too large an image"):
            load(settings, contract)


@pytest.mark.parametrize(
    "settings",
    [
        NpzSettings(path=Path("/nowhere/data.npz")),
        IdxSettings(path=Path("/nowhere")),
        CsvSettings(path=Path("/nowhere/data.csv"), target="y"),
        ImageFolderSettings(path=Path("/nowhere")),
    ],
    ids=lambda settings: str(settings.kind),
)
def test_a_missing_source_is_named(settings: DataSettings) -> None:
    for read in (inspect, fingerprint, lambda source: load(source, AB)):
        with pytest.raises(DataError, match="/nowhere"):
            read(settings)


def test_empty_folders_hold_no_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for read in (inspect, lambda source: load(source, DataContract(shape=(2, 2), classes=("a",)))):
        with pytest.raises(DataError, match="no image"):
            read(ImageFolderSettings(path=tmp_path))


def test_what_the_contract_makes_of_the_data_is_bounded_too(tmp_path: Path) -> None:
    settings = idx(tmp_path).model_copy(update={"max_bytes": 20})
    with pytest.raises(DataError, match="as float32: 48 bytes"):
        load(settings, DataContract(shape=(2, 2), classes=("a", "b")))


def test_the_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    settings = npz(tmp_path)
    before = fingerprint(settings)
    assert fingerprint(settings) == before
    os.utime(settings.path, ns=(1, 1))
    assert fingerprint(settings) != before
    folder = ImageFolderSettings(path=pictures(tmp_path, {"a/1.png": (1, 2, 3)}))
    before = fingerprint(folder)
    pictures(tmp_path, {"a/2.png": (1, 2, 3)})
    assert fingerprint(folder) != before


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the MNIST files are not on this machine")
def test_mnist_loads_as_it_comes() -> None:
    settings = IdxSettings(
        path=SHARED / "mnist", images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"
    )
    contract = DataContract(shape=(28, 28, 1), dtype="uint8", classes=tuple("0123456789"))
    examples = load(settings, contract)
    assert examples.x.shape == (10_000, 28, 28, 1)
    assert inspect(settings).labels["7"] == int((examples.y == 7).sum()) == 1028


@pytest.mark.skipif(not (SHARED / "letters").is_dir(), reason="the letters are not on this machine")
def test_a_folder_of_letters_loads_as_it_comes() -> None:
    settings = ImageFolderSettings(path=SHARED / "letters/client-1")
    examples = load(settings, DataContract(shape=(16, 16), dtype="uint8", classes=tuple("abcdefghij")))
    assert len(examples.x) == inspect(settings).examples > 0
    assert set(examples.y.tolist()) == set(range(10))
