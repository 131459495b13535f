from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A broker of ours with nobody on it yet."""
    with Lab(tmp_path) as started:
        yield started
