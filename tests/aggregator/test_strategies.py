import sys
import tomllib
from pathlib import Path

import pytest

from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.registry import GROUP, load_strategy, strategy_names
from host.errors import ConfigError

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def install(folder: Path, distribution: str, points: dict[str, str]) -> None:
    """Make a distribution with these strategies importable, as pip would."""
    about = folder / f"{distribution}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    install(tmp_path, "midge", project["entry-points"][GROUP])
    return tmp_path


@pytest.mark.usefixtures("site")
def test_fedavg_is_a_strategy_of_the_project() -> None:
    assert isinstance(load_strategy("fedavg"), FedAvg)
    assert load_strategy("fedavg") is not load_strategy("fedavg")


def test_a_users_strategy_is_found_by_its_entry_point(site: Path) -> None:
    (site / "garden.py").write_text("class Median:\n    state = {}\n")
    install(site, "garden", {"median": "garden:Median"})
    assert type(load_strategy("median")).__name__ == "Median"
    assert {"fedavg", "median"} <= set(strategy_names())


@pytest.mark.usefixtures("site")
def test_an_unknown_strategy_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'fedprox'.*fedavg"):
        load_strategy("fedprox")


def test_a_strategy_that_cannot_be_loaded_says_where_it_should_be(site: Path) -> None:
    install(site, "broken", {"broken": "nowhere_at_all:Strategy"})
    with pytest.raises(ConfigError, match=r"'broken' \(nowhere_at_all:Strategy\)"):
        load_strategy("broken")
