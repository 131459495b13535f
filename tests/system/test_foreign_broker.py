"""A broker that midge did not configure: TLS only, names of its own, another prefix, others' traffic."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mosquitto import _free_port, find_mosquitto
from broker.settings import BrokerSettings
from tests.broker.certificates import make_authority, make_certificate
from tests.broker.peer import Peer
from tests.system.lab import DEVICES, Lab

CONFIG = """
listener {port} 127.0.0.1
certfile {folder}/server.crt
keyfile {folder}/server.key
allow_anonymous false
password_file {folder}/accounts
acl_file {folder}/rights
user root
"""
# Whoever runs it gave its users names of their own, and rights to what lies below the prefix.
NAMES = {
    "aggregator": "line-control",
    "operator": "shift-lead",
    "monitor": "wallboard",
    **{device: f"press-{device}" for device in DEVICES},
}


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[BrokerSettings]:
    folder = tmp_path / "foreign"
    folder.mkdir()
    make_authority(folder, "ca")
    make_certificate(folder, "server", "ca")
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None
    (folder / "accounts").touch(mode=0o600)
    for name in (*NAMES.values(), "stranger"):
        (folder / name).write_text(f"secret of {name}")
        subprocess.run([tool, "-b", folder / "accounts", name, f"secret of {name}"], check=True)
    (folder / "rights").write_text(
        "".join(f"user {name}\ntopic readwrite acme/hall-2/#\n" for name in NAMES.values())
        + "user stranger\ntopic readwrite #\n"
    )
    port = _free_port()
    (folder / "mosquitto.conf").write_text(CONFIG.format(folder=folder, port=port))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([find_mosquitto(), "-c", folder / "mosquitto.conf"], stderr=log) as process,
    ):
        try:
            await_running(process, folder / "log")
            yield BrokerSettings(
                url=f"mqtts://127.0.0.1:{port}",
                ca_file=folder / "ca.crt",
                username="stranger",
                password_file=folder / "stranger",
                prefix="acme/hall-2",
                federation="presses",
            )
        finally:
            process.terminate()


def await_running(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while " running" not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_a_run_completes_over_tls_under_another_prefix_with_accounts_of_its_own(
    tmp_path: Path, foreign: BrokerSettings
) -> None:
    with (
        Peer(foreign, "stranger", "#") as others,
        Lab(tmp_path, broker=foreign, usernames=NAMES) as lab,
    ):
        others.send("acme/hall-2/v1/presses/devices/pi-1/nonsense", b"not ours")
        others.send("acme/hall-1/temperature", b"21.5", retain=True)
        lab.start_aggregator()
        lab.start_agents()
        run = lab.start_run(rounds=1, min_devices=3)
        assert lab.until_ended(run)["state"] == "finished"
        assert set(lab.accepted(run, 1)) == set(DEVICES)
        others.send("end", b"end")
        topics = {message.topic for message in others.receive_until(b"end")}
    others_own = {"elsewhere", "acme/hall-1/temperature"}
    ours = topics - others_own
    assert ours
    assert {topic for topic in ours if not topic.startswith("acme/hall-2/v1/presses/")} == set()
