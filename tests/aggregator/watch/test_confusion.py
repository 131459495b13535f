import json
from pathlib import Path

import pytest

from aggregator.watch.confusion import confusion_path, read_confusion
from broker.monitor import MAX_CONFUSION_CLASSES, MAX_DOCUMENT_BYTES


def written(runs: Path, content: object) -> Path:
    path = confusion_path(runs, "run-a", 7)
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_matrix_beside_a_model_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, {"classes": ["cat", "dog"], "counts": [[3, 1], [0, 4]]})
    assert path == tmp_path / "run-a/models/round-0007.confusion.json"
    document = read_confusion(tmp_path, "run-a", 7)
    assert document is not None
    assert (document.run, document.round, document.classes) == ("run-a", 7, ("cat", "dog"))
    assert document.counts == ((3, 1), (0, 4))


def test_a_round_without_one_has_none(tmp_path: Path) -> None:
    assert read_confusion(tmp_path, "run-a", 7) is None


MANY = MAX_CONFUSION_CLASSES + 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "JSON"),
        ([], "object"),
        ({"classes": ["cat"]}, "counts"),
        ({"classes": ["cat"], "counts": [["many"]]}, "integer"),
        ({"classes": ["cat", "dog"], "counts": [[1, 2]]}, "are not 2 by 2"),
        ({"classes": ["cat"], "counts": [[1, 2]]}, "are not 1 by 1"),
        ({"classes": ["x"] * MANY, "counts": [[0] * MANY] * MANY}, "it has 101 classes, shown are up to 100"),
        (" " * (MAX_DOCUMENT_BYTES + 1), "it has 1,000,001 bytes"),
    ],
    ids=[
        "cut",
        "no-map",
        "no-counts",
        "no-numbers",
        "too-few-rows",
        "too-long-rows",
        "too-many",
        "too-large",
    ],
)
def test_what_is_no_matrix_is_not_shown_and_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object, complaint: str
) -> None:
    written(tmp_path, content)
    assert read_confusion(tmp_path, "run-a", 7) is None
    assert "round-0007.confusion.json is not shown" in caplog.text
    assert complaint in caplog.text
