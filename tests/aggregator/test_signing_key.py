from pathlib import Path

import pytest

from aggregator.check import check
from aggregator.main import main
from aggregator.settings import AggregatorSettings
from broker.settings import BrokerSettings
from broker.signing import Signer
from host.exits import ExitCode

HEX_DIGITS = 64


def key(folder: Path) -> int:
    return main(["key", "--set", f"folder={folder}", "--set", "broker.url=mqtt://127.0.0.1:1"])


def test_the_command_prints_the_key_that_announcements_are_signed_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "aggregator"
    assert [key(folder), key(folder)] == [ExitCode.OK] * 2
    first, second = capsys.readouterr().out.splitlines()
    assert first == second == Signer(folder / "signing.key").public_key
    assert len(first) == HEX_DIGITS


def test_a_damaged_key_is_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "signing.key").write_text("nonsense")
    assert key(tmp_path) == ExitCode.BAD_CONFIG
    assert "signing.key cannot be used: it holds no key" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "ab" * 32], ids=["none", "damaged", "good"])
def test_a_check_looks_at_the_key_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "signing.key"
    if content is not None:
        path.touch(mode=0o600)
        path.write_text(content)
    check(AggregatorSettings(folder=tmp_path, broker=BrokerSettings(url="mqtt://127.0.0.1:1")))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "signing key" in line]
    expected = {None: "ok    signing key: there is none yet", "": "WRONG signing key: signing key "}
    pinned = f"ok    signing key: devices pin {Signer(path).public_key}" if content else ""
    assert line.startswith(expected.get(content, pinned))
    assert path.exists() is (content is not None)
