import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aggregator.keras.litert.export import export_litert
from tests.aggregator.keras.litert.in_litert import difference
from tests.aggregator.keras.litert.small_models import BUILDERS

MODELS_PAGE = Path(__file__).parents[4] / "docs/models.md"


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_ten_steps_in_litert_are_those_of_keras(build: Callable[[], Any]) -> None:
    model = build()
    apart, moved = difference(export_litert(model, batch=4), model)
    assert moved > 1e-2
    assert apart <= 1e-4


def test_the_page_on_models_has_a_row_for_each_of_these_models() -> None:
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \|", MODELS_PAGE.read_text(), re.MULTILINE)
    assert rows == [build.__name__ for build in BUILDERS]
