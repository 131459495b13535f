from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.results.confusion import accuracy, confusion
from deploy.results.image import read_image
from deploy.results.plots import plot_confusion, plot_curves
from host.errors import DataError


def test_rows_are_true_and_columns_predicted() -> None:
    matrix = confusion(np.array([0, 0, 2, 1]), np.array([0, 2, 2, 0]), 3)
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_accuracy_can_be_asked_of_some_classes_only() -> None:
    matrix = confusion(np.array([0, 0, 2, 1]), np.array([0, 2, 2, 0]), 3)
    assert accuracy(matrix) == 0.5
    assert accuracy(matrix, [0]) == 0.5
    assert accuracy(matrix, [1, 2]) == 0.5
    assert accuracy(matrix, [2]) == 1.0


def test_accuracy_of_classes_without_examples_is_unknown() -> None:
    assert accuracy(confusion(np.array([0]), np.array([0]), 2), [1]) is None


def test_an_image_is_turned_grey_and_resized_to_the_model(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(path)
    pixels = read_image(path, (8, 8))
    assert pixels.shape == (8, 8)
    assert pixels.dtype == np.float32
    assert np.unique(pixels).tolist() == [76.0]
    assert np.unique(read_image(path, (8, 8), invert=True)).tolist() == [179.0]
    assert read_image(path, (16, 12, 3))[0, 0].tolist() == [255.0, 0.0, 0.0]


def test_a_flat_input_is_taken_as_a_grey_square(tmp_path: Path) -> None:
    path = tmp_path / "step.png"
    Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)).save(path)
    assert read_image(path, (64,)).tolist() == list(range(0, 256, 4))


@pytest.mark.parametrize("shape", [(63,), (8, 8, 2), (2, 8, 8, 1)])
def test_an_input_that_is_no_image_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="no image's"):
        read_image(tmp_path / "none.png", shape)


def test_a_file_that_is_no_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("not pixels")
    with pytest.raises(DataError, match="no image that can be read"):
        read_image(path, (8, 8))
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "absent.png", (8, 8))


def test_pictures_are_written_also_for_classes_without_examples(tmp_path: Path) -> None:
    matrix = confusion(np.array([0, 1]), np.array([0, 0]), 3)
    plot_confusion(tmp_path / "confusion.png", matrix, ["nought", "one", "two"], "model")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert image.width == image.height


def test_curves_are_drawn_also_when_rounds_lack_metrics(tmp_path: Path) -> None:
    history = [
        {"round": 1, "metrics": {"accuracy": 0.5, "loss": 1.2}, "federated": {}},
        {"round": 2, "metrics": {}, "federated": {"loss": 1.0}},
    ]
    plot_curves(tmp_path / "curves.png", history, {"alone": 0.4})
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        plot_curves(tmp_path / "absent" / "curves.png", [], {})
