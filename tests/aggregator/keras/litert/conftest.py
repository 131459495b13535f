import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick_collection() -> Iterator[None]:
    """Keep TensorFlow's own objects out of the collections that every conversion makes."""
    import tensorflow as tf  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
