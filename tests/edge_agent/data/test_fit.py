from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.contract import DataContract
from edge_agent.data.examples import Examples
from edge_agent.data.fit import ContractError, fit
from host.errors import DataError

CLASSES = ("cat", "dog", "owl")


def contract(**fields: Any) -> DataContract:  # noqa: ANN401
    return DataContract.model_validate({"shape": (4,), "classes": CLASSES} | fields)


def raw(x: Any = None, y: Any = None) -> Examples:  # noqa: ANN401
    return Examples(
        np.zeros((3, 4), np.float32) if x is None else np.asarray(x),
        np.asarray([0, 1, 2] if y is None else y),
    )


@pytest.mark.parametrize(
    ("here", "asked"),
    [((784,), (28, 28)), ((28, 28), (784,)), ((28, 28), (28, 28, 1)), ((28, 28, 1), (28, 28)), ((), (1,))],
)
def test_shapes_that_differ_only_in_form_are_reshaped(here: tuple[int, ...], asked: tuple[int, ...]) -> None:
    x = np.arange(3 * int(np.prod(here)), dtype=np.float32).reshape(3, *here)
    fitted = fit(raw(x), contract(shape=asked), "d")
    assert fitted.x.shape == (3, *asked)
    assert fitted.x.ravel().tolist() == x.ravel().tolist()


@pytest.mark.parametrize(("here", "asked"), [((4,), (5,)), ((2, 8), (4, 4)), ((3, 2, 2), (2, 2, 3))])
def test_other_shapes_are_refused(here: tuple[int, ...], asked: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match=r"d: inputs have shape .* the task asks for"):
        fit(raw(np.zeros((3, *here))), contract(shape=asked), "d")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, 255], np.uint8), "float32"),
        (np.array([-3, 1 << 24], np.int64), "float32"),
        (np.array([0.1, 1e30], np.float64), "float32"),
        (np.array([0, 255], np.int64), "uint8"),
        (np.array([1.0, 2.0], np.float64), "int32"),
        (np.array([True, False]), "float32"),
        (np.array([1.5, 2.5], ">f4"), "float32"),
    ],
)
def test_values_that_survive_are_converted(values: np.ndarray[Any, Any], dtype: str) -> None:
    fitted = fit(raw(values.reshape(1, 2), [0]), contract(shape=(2,), dtype=dtype), "d")
    assert fitted.x.dtype == dtype
    np.testing.assert_allclose(fitted.x.astype(np.float64)[0], values.astype(np.float64), rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 256], "uint8"),
        ([-1, 0], "uint8"),
        ([0, (1 << 24) + 1], "float32"),
        ([0.5, 1.0], "int32"),
        ([1e39, 0], "float32"),
        (["a", "b"], "float32"),
        ([1j, 0], "float32"),
    ],
)
def test_values_that_would_not_survive_are_refused(values: list[Any], dtype: str) -> None:
    with pytest.raises(ContractError, match=f"asks.*{dtype}|{dtype}, as the task asks"):
        fit(raw([values], [0]), contract(shape=(2,), dtype=dtype), "d")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="not finite"):
        fit(raw(np.full((3, 4), value)), contract(), "d")
    with pytest.raises(DataError, match="not finite"):
        fit(raw(y=[0.0, value, 1.0]), contract(classes=None), "d")


def test_labels_may_be_indexes_names_or_numbers_as_text() -> None:
    for labels in ([2, 0, 1], ["owl", "cat", "dog"], ["2", "0", "1"], [[2], [0], [1]]):
        y = fit(raw(y=labels), contract(), "d").y
        assert y.tolist() == [2, 0, 1]
        assert y.dtype == np.int32


def test_a_label_that_is_a_class_name_is_that_class_even_if_it_is_a_number() -> None:
    assert fit(raw(y=["3", "2", "1"]), contract(classes=("1", "2", "3")), "d").y.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 3], [-1, 0, 1], ["cat", "cow", "dog"], ["0", "1", "3"], ["cat", "1", "2"], [0.0, 1.0, 2.0]],
)
def test_labels_outside_the_classes_are_refused(labels: list[Any]) -> None:
    with pytest.raises(ContractError, match="classes"):
        fit(raw(y=labels), contract(), "d")


def test_targets_without_classes_get_the_contracts_shape() -> None:
    fitted = fit(raw(y=np.ones((3, 2, 2), np.float64)), contract(classes=None, target_shape=(4,)), "d")
    assert fitted.y.shape == (3, 4)
    assert fitted.y.dtype == np.float32


def test_unequal_lengths_and_no_examples_are_refused() -> None:
    with pytest.raises(DataError, match="3 inputs but 2 labels"):
        fit(raw(y=[0, 1]), contract(), "d")
    with pytest.raises(DataError, match="no example"):
        fit(raw(np.zeros((0, 4)), np.zeros(0, int)), contract(), "d")


@given(
    st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1, max_size=4),
    st.sampled_from(["float32", "uint8", "int32"]),
)
@settings(max_examples=60)
def test_whole_numbers_are_kept_exactly_or_refused(values: list[int], dtype: str) -> None:
    try:
        fitted = fit(raw([values], [0]), contract(shape=(len(values),), dtype=dtype), "d")
    except ContractError:
        return
    assert [int(value) for value in fitted.x[0]] == values
