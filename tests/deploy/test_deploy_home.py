import sys
from pathlib import Path

import pytest

from deploy.command.app import run
from edge_agent.settings import AgentSettings
from host.settings import load_settings


def midge(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", ["midge", *arguments])
    with pytest.raises(SystemExit) as left:
        run()
    return int(left.value.code or 0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "home"
    assert midge(monkeypatch, "init", str(folder), "--host", "broker.example", "--federation", "lab") == 0
    capsys.readouterr()
    return folder


def agent(home: Path, device: str) -> AgentSettings:
    return load_settings(AgentSettings, home / "devices" / device / "agent.toml", {}, {})


def test_init_says_what_it_made_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a home"
    assert midge(monkeypatch, "init", str(folder), "--host", "broker.example") == 0
    said = capsys.readouterr().out
    assert said.startswith("made federation.toml\nmade pki/root.crt\n")
    for command in (
        f"mosquitto -c '{folder}'/broker/mosquitto.conf",
        f"midge-aggregator run --config '{folder}'/aggregator/aggregator.toml",
        f"midge enroll pi-1 --home '{folder}'",
    ):
        assert f"\n  {command}\n" in f"{said}\n"
    assert "Take " in said
    (folder / "pki/root.key").unlink()
    assert midge(monkeypatch, "init", str(folder)) == 0
    said = capsys.readouterr().out
    assert "has all that it needs" in said
    assert "Take " not in said


def test_init_tells_of_files_that_it_would_write_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "broker/acl").write_text("topic read #\n")
    assert midge(monkeypatch, "init", str(home)) == 0
    assert capsys.readouterr().err.startswith("kept broker/acl, which is not as this version would write it")


def test_init_without_a_host_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert midge(monkeypatch, "init", str(tmp_path / "home")) == 78
    assert capsys.readouterr().err.startswith("midge: how do devices reach the broker? give --host")


def test_a_device_is_enrolled_with_tags_and_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("--tag", "kitchen", "--set", "data.path=/srv/a.npz", "--set", "nice=3")
    assert midge(monkeypatch, "enroll", "pi-1", "--home", str(home), *chosen) == 0
    settings = agent(home, "pi-1")
    assert (settings.tags, settings.nice) == (("kitchen",), 3)
    assert settings.data.path == Path("/srv/a.npz")


def test_the_home_is_where_we_are_or_in_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert midge(monkeypatch, "enroll", "pi-1") == 0
    monkeypatch.chdir("/")
    assert midge(monkeypatch, "enroll", "pi-2") == 78
    assert "is no federation's home" in capsys.readouterr().err
    monkeypatch.setenv("MIDGE_HOME", str(home))
    assert midge(monkeypatch, "enroll", "pi-2") == 0
    assert agent(home, "pi-2").device == "pi-2"


def test_many_are_enrolled_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert midge(monkeypatch, "enroll", "--count", "2", "--prefix-id", "s-", "--home", str(home)) == 0
    assert sorted(folder.name for folder in (home / "devices").iterdir()) == ["s-1", "s-2"]


def test_a_batch_is_enrolled_whole_or_not_at_all(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    batch = tmp_path / "fleet.csv"
    for line, fault in (("monitor,", "is the name of a role"), ("pi-3,99", "nice: input should be less")):
        batch.write_text(f"id,nice\npi-2,\n{line}\n")
        assert midge(monkeypatch, "enroll", "--csv", str(batch), "--home", str(home)) == 78
        assert fault in capsys.readouterr().err
        assert not (home / "devices").exists()
    batch.write_text("id,tags\npi-2,a b\npi-3,\n")
    assert midge(monkeypatch, "enroll", "--csv", str(batch), "--tag", "c", "--home", str(home)) == 0
    assert (agent(home, "pi-2").tags, agent(home, "pi-3").tags) == (("a", "b"), ("c",))


def test_a_bundle_that_is_there_stops_the_batch(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert midge(monkeypatch, "enroll", "pi-2", "--home", str(home)) == 0
    (tmp_path / "fleet.csv").write_text("id\npi-1\npi-2\n")
    assert midge(monkeypatch, "enroll", "--csv", str(tmp_path / "fleet.csv"), "--home", str(home)) == 78
    assert "devices/pi-2 is there already" in capsys.readouterr().err
    assert [folder.name for folder in (home / "devices").iterdir()] == ["pi-2"]


@pytest.mark.parametrize("arguments", [(), ("pi-1", "--count", "2")], ids=["none", "two"])
def test_which_devices_must_be_clear(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    assert midge(monkeypatch, "enroll", *arguments, "--home", str(home)) == 78
    assert "which devices?" in capsys.readouterr().err
