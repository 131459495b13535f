from typing import Any

import pytest
from pydantic import ValidationError

from broker.contract import DataContract


def test_a_contract_survives_json() -> None:
    contract = DataContract(shape=(28, 28, 1), dtype="uint8", classes=("cat", "dog"))
    assert DataContract.model_validate_json(contract.model_dump_json()) == contract


def test_classes_are_optional() -> None:
    assert DataContract(shape=(24, 3), target_shape=(1,)).classes is None


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": ()},
        {"shape": (0,)},
        {"shape": (-1, 2)},
        {"shape": (1,) * 7},
        {"shape": ((1 << 24) + 1,)},
        {"shape": (1,), "dtype": "float64"},
        {"shape": (1,), "classes": ("",)},
        {"shape": (1,), "classes": tuple(str(index) for index in range(4097))},
        {"shape": (1,), "target_shape": (0,)},
        {"shape": (1,), "novelty": 1},
    ],
)
def test_an_impossible_contract_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataContract.model_validate(fields)
