import pytest
from pydantic import ValidationError

from broker.messages import BlobRef, Message, TrainingSettings
from tests.broker.examples import DIGEST, EXAMPLES


@pytest.mark.parametrize(
    ("size", "chunk_bytes", "chunks"), [(1, 1024, 1), (1024, 1024, 1), (1025, 1024, 2), (10 * 1024, 1024, 10)]
)
def test_a_blob_has_as_many_chunks_as_it_takes(size: int, chunk_bytes: int, chunks: int) -> None:
    assert BlobRef(digest=DIGEST, size=size, chunk_bytes=chunk_bytes).chunks == chunks


def test_a_transfer_is_named_by_the_beginning_of_its_digest() -> None:
    assert BlobRef(digest=DIGEST, size=1, chunk_bytes=1024).transfer == DIGEST[:16]


@pytest.mark.parametrize("size", [0, -1, (4 << 30) + 1])
def test_a_blob_of_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ValidationError):
        BlobRef(digest=DIGEST, size=size, chunk_bytes=1024)


def test_steps_take_the_place_of_the_epochs_nobody_gave() -> None:
    assert TrainingSettings(steps=10).epochs is None
    assert TrainingSettings().epochs == 1


@pytest.mark.parametrize(("epochs", "steps"), [(None, None), (1, 1)])
def test_training_has_exactly_one_length(epochs: int | None, steps: int | None) -> None:
    with pytest.raises(ValidationError, match="give epochs or steps, not both and not neither"):
        TrainingSettings(epochs=epochs, steps=steps)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_cannot_be_changed(message: Message) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        message.minor = 5  # type: ignore[misc]
