import pytest

from broker.monitor import means


def test_pairs_become_means() -> None:
    assert means({"loss": (5.0, 10.0), "accuracy": (9.0, 10.0)}) == {"loss": 0.5, "accuracy": 0.9}


@pytest.mark.parametrize("pair", [(1.0, 0.0), (1e308, 1e-308), (-1e308, 1e-308)])
def test_what_a_device_says_cannot_make_a_mean_that_no_document_can_hold(pair: tuple[float, float]) -> None:
    assert means({"loss": pair}) == {}


def test_no_metrics_are_no_means() -> None:
    assert means(None) == {}
