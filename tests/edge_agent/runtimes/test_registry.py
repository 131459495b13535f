import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.runtimes.registry import available, create
from host.errors import ConfigError

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runtimes as a user would install them, one of which cannot be imported."""
    (tmp_path / "own_runtime.py").write_text("class Own:\n    pass\n")
    (tmp_path / "broken_runtime.py").write_text("class Broken:\n    def __init__(self):\n        {}['gpu']\n")
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[midge.runtimes]\nown = own_runtime:Own\nabsent = own_runtime:Absent\n"
        "needy = edge_agent.runtimes.keras:KerasRuntime\nbroken = broken_runtime:Broken\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("users_own")
def test_a_users_own_class_is_available_and_created() -> None:
    assert "own" in available()
    assert type(create("own")).__name__ == "Own"


@pytest.mark.usefixtures("users_own")
def test_a_runtime_without_what_it_needs_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needy" in available()
    monkeypatch.setattr("edge_agent.runtimes.registry.find_spec", lambda _: None)
    assert "needy" not in available()
    with pytest.raises(ConfigError, match="needs tensorflow and keras"):
        create("needy")


@pytest.mark.usefixtures("users_own")
def test_a_runtime_that_cannot_be_made_says_why() -> None:
    with pytest.raises(ConfigError, match=r"'no-such' is not installed here; there is: .*own"):
        create("no-such")
    with pytest.raises(ConfigError, match=r"own_runtime:Absent.*cannot be loaded"):
        create("absent")
    with pytest.raises(ConfigError, match="cannot be loaded: KeyError: 'gpu'; mend or reinstall"):
        create("broken")


def test_listing_runtimes_loads_nothing_heavy() -> None:
    program = (
        "import sys\nimport edge_agent.data.settings\nfrom edge_agent.runtimes.registry import available\n"
        "available()\nprint(sorted({'numpy', 'PIL', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
