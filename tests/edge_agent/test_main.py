import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from broker.events import Received
from broker.messages import Federation, Presence
from broker.mosquitto import Mosquitto
from broker.topics import FEDERATION, PRESENCE, Topics
from broker.wire import decode, encode
from edge_agent.check import PARTS
from edge_agent.data.settings import NpzSettings
from edge_agent.main import main
from edge_agent.settings import AgentSettings
from edge_agent.store import Store
from host.exits import ExitCode
from tests.broker.peer import Peer

ROOT = Path(__file__).parents[2]
HEAVY = {
    "numpy",
    "tensorflow",
    "keras",
    "PIL",
    "sklearn",
    "matplotlib",
    "pydantic_settings",
    "asyncio",
    "cryptography",
}
COMMAND = [sys.executable, "-c", "from edge_agent.main import main; raise SystemExit(main())"]


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `code`."""
    show = "\nimport sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    result = subprocess.run(
        [sys.executable, "-c", code + show], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def settings_file(tmp_path: Path, mosquitto: Mosquitto | None = None, data: str = "data.npz") -> Path:
    broker = mosquitto.settings("pi-1") if mosquitto else None
    lines = [
        'device = "pi-1"',
        f'state_folder = "{tmp_path}/state"',
        "[broker]",
        f'url = "{broker.url if broker else "mqtt://127.0.0.1:1"}"',
        *([f'username = "{broker.username}"', f'password_file = "{broker.password_file}"'] if broker else []),
        'federation = "lab"',
        "[data]",
        'kind = "npz"',
        f'path = "{tmp_path}/{data}"',
    ]
    path = tmp_path / "agent.toml"
    path.write_text("\n".join(lines))
    np.savez(tmp_path / "data.npz", x=np.zeros((7, 4), np.float32), y=np.zeros(7, np.int32))
    return path


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = loaded_by("import edge_agent.main")
    assert not loaded & (HEAVY | {"pydantic", "paho", "msgpack"})


def test_an_idle_agent_loads_nothing_that_only_training_needs() -> None:
    loaded = loaded_by(
        "import edge_agent.service, edge_agent.profile, edge_agent.runtimes.registry as r; r.available()"
    )
    assert "pydantic" in loaded
    assert not loaded & HEAVY


def test_an_enrolled_agent_that_idles_loads_nothing_to_sign_with(tmp_path: Path) -> None:
    loaded = loaded_by(
        "from pathlib import Path\n"
        "import edge_agent.enrolling, edge_agent.service\n"
        "from broker.settings import BrokerSettings\n"
        "from edge_agent.identity import Identity\n"
        "from edge_agent.renewing import Renewing\n"
        f"folder = Path({str(tmp_path)!r})\n"
        """(folder / "certificates.json").write_text('{"current": "a", "renew_unix_s": 9e9}')\n"""
        "broker = BrokerSettings(url='mqtts://127.0.0.1:1')\n"
        "renewing = Renewing(Identity(folder, broker), None, broker.topics, 'pi-1')\n"
        "renewing.connected(); renewing.fire(0.0)"
    )
    assert "edge_agent" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["--version"]])
def test_help_and_version_are_answered(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    assert "midge" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run", "--log-level", "loud"]])
def test_a_command_line_that_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "/none.toml"], "midge-agent: /none.toml: cannot be read: "),
        (["--set", "device"], "midge-agent: --set device: write it as KEY=VALUE"),
        (["--set", "device=A"], "midge-agent: --set: device: string should match pattern"),
    ],
)
def test_bad_settings_are_one_line_and_exit_78(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == ExitCode.BAD_CONFIG
    assert capsys.readouterr().err.startswith(expected)


def test_missing_data_is_told_at_the_start_and_exits_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path, data="nowhere.npz")
    assert main(["run", "--config", str(path)]) == ExitCode.BAD_CONFIG
    assert "nowhere.npz" in capsys.readouterr().err.splitlines()[-1]


def test_a_check_names_every_part_and_the_first_fault_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path)
    assert main(["check", "--config", str(path)]) == ExitCode.UNREACHABLE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "ok    settings",
        "ok    data",
        "ok    runtimes",
        "ok    state folder",
        "WRONG broker",
        "ok    aggregator key",
    ]
    assert "examples 7" in lines[1]


def test_a_check_of_what_is_fine_says_so(
    mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path, mosquitto)
    assert main(["check", "--config", str(path)]) == ExitCode.OK
    assert "WRONG" not in capsys.readouterr().out
    assert (
        main(["check", "--config", str(path), "--set", "broker.username=pi-2"])
        == ExitCode.REFUSED_CREDENTIALS
    )


KEY, OTHER_KEY = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(
    ("pinned", "told", "code", "words"),
    [
        (None, None, ExitCode.OK, "none is pinned, whoever can write midge/v1/lab/round is obeyed"),
        (None, KEY, ExitCode.OK, f"; the federation says {KEY}: compare it with `midge-aggregator key`"),
        (KEY, None, ExitCode.OK, f"{KEY} is pinned; the federation did not say its own"),
        (KEY, KEY, ExitCode.OK, f"{KEY} is pinned, and is the federation's"),
        (KEY, OTHER_KEY, ExitCode.BAD_CONFIG, f"{KEY} is pinned, but the federation says {OTHER_KEY}: "),
    ],
    ids=["none", "not pinned", "not told", "the same", "another"],
)
def test_a_check_compares_the_pinned_key_with_what_the_federation_says(
    mosquitto: Mosquitto,
    topics: Topics,
    tmp_path: Path,
    pinned: str | None,
    told: str | None,
    code: ExitCode,
    words: str,
) -> None:
    settings = AgentSettings(
        device="pi-1",
        broker=mosquitto.settings("pi-1"),
        data=NpzSettings(path=tmp_path),
        aggregator_key=pinned,
    )
    if told:
        said = Federation(session=1, version="1", heartbeat_s=1, aggregator_key=told)
        with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
            aggregator.send(topics.topic(FEDERATION), encode(said), retain=True)
    found, text = PARTS["aggregator key"](settings)
    assert (found, words in text) == (code, True), text


def test_a_terminated_agent_says_goodbye_and_exits_with_0(
    mosquitto: Mosquitto, tmp_path: Path, topics: Topics
) -> None:
    path = settings_file(tmp_path, mosquitto)
    presence = topics.filter(PRESENCE)
    with Peer(mosquitto.settings("aggregator"), "aggregator", presence) as aggregator:
        agent = subprocess.Popen(
            [*COMMAND, "run", "--config", path], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
        )
        birth = decode(Presence, aggregator.until(Received).payload)
        assert (birth.online, birth.examples, "keras" in birth.runtimes) == (True, 7, True)
        agent.send_signal(signal.SIGTERM)
        _, errors = agent.communicate(timeout=30)
        death = decode(Presence, aggregator.until(Received).payload)
    assert (death.online, death.connection) == (False, birth.connection)
    assert agent.returncode == ExitCode.OK
    assert "connected to mqtt://" in errors
    assert "Traceback" not in errors


def test_a_check_beside_a_running_agent_finds_nothing_wrong(
    mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path, mosquitto)
    with closing(Store(tmp_path / "state")):
        assert main(["check", "--config", str(path)]) == ExitCode.OK
    assert "used by an agent that runs now" in capsys.readouterr().out


def test_a_check_shows_some_of_many_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings_file(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.zeros((25, 4), np.float32), y=np.arange(25))
    main(["check", "--config", str(path)])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "data" in line]
    assert line.startswith("ok    data: examples 25, shape [4], labels {'0': 1, '1': 1, ")
    assert line.endswith("'19': 1} and 5 more")
