"""The verbs acl, doctor and purge, as an operator gives them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker import topics as tree
from broker.acl import acl
from broker.discovery import Discovery
from broker.mosquitto import Mosquitto
from broker.topics import TREE, Role, Topics
from deploy.command.app import app
from deploy.foreign.patients import Files, read_patients
from deploy.foreign.rights import may_read, may_write, rights
from edge_agent.store import Store
from host.errors import ConfigError, MidgeError
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.deploy.lacking import lacking
from tests.system.lab import broker_table

RUNNER = CliRunner()


def write_files(folder: Path, broker: Mosquitto, *devices: str) -> list[str]:
    """Settings files for each role, as options."""
    tables = {user: broker_table(broker.settings(user)) for user in ("aggregator", "monitor", *devices)}
    (folder / "aggregator.toml").write_text(f'folder = "{folder / "agg"}"\n{tables["aggregator"]}')
    (folder / "monitor.toml").write_text(tables["monitor"])
    options = ["--aggregator", f"{folder / 'aggregator.toml'}", "--monitor", f"{folder / 'monitor.toml'}"]
    for device in devices:
        file = folder / f"{device}.toml"
        file.write_text(
            f'device = "{device}"\nstate_folder = "{folder / device}"\n'
            f'[data]\nkind = "npz"\npath = "{folder / "data.npz"}"\n{tables[device]}'
        )
        options += ["--device", str(file)]
    return options


def test_acl_prints_every_right_of_the_tree_in_each_form(topics: Topics) -> None:
    listed = json.loads(RUNNER.invoke(app, ["acl", "--federation", "lab", "--json"]).stdout)
    assert [tuple(right.values()) for right in listed] == [tuple(right) for right in rights(topics)]
    needed = {(role, branch) for branch in TREE for role in (*branch.writers, *branch.readers)}
    assert len(listed) == len(needed)
    table = RUNNER.invoke(app, ["acl", "--federation", "lab"]).stdout
    assert all(right["topic"] in table for right in listed)
    options = ["--federation", "lab", "--mosquitto", "--account", "boss=operator"]
    told = RUNNER.invoke(app, ["acl", *options]).stdout
    assert told == acl(topics, {"boss": Role.OPERATOR})
    told = RUNNER.invoke(app, ["acl", "--federation", "lab", "--mosquitto"]).stdout
    assert "user registrar\n" in told


def test_an_access_list_without_names_has_an_account_a_role(topics: Topics) -> None:
    outcome = RUNNER.invoke(app, ["acl", "--federation", "lab", "--mosquitto"])
    named = (Role.AGGREGATOR, Role.OPERATOR, Role.MONITOR, Role.REGISTRAR)
    assert outcome.stdout == acl(topics, {role.value: role for role in named})


@pytest.mark.parametrize(
    ("account", "why"), [("Boss=operator", "user name 'Boss'"), ("e=enrolment", "NAME=ROLE")]
)
def test_an_account_that_the_list_cannot_have_is_told(account: str, why: str) -> None:
    outcome = RUNNER.invoke(app, ["acl", "--mosquitto", "--account", account])
    assert isinstance(outcome.exception, ConfigError)
    assert why in str(outcome.exception)


def test_acl_prints_home_assistants_rights_when_it_is_asked_for(topics: Topics) -> None:
    own = Discovery(topics, "ha", "ha/status")
    options = ["acl", "--federation", "lab", "--home-assistant", "--discovery-prefix", "ha"]
    listed = json.loads(RUNNER.invoke(app, [*options, "--json"]).stdout)
    assert [tuple(right.values()) for right in listed] == [tuple(right) for right in rights(topics, own)]
    more = [right for right in listed if not right["topic"].startswith(topics.root)]
    assert [(right["role"], right["topic"], right["reads"], right["writes"]) for right in more] == [
        ("aggregator", own.filter, False, True),
        ("aggregator", own.status, True, False),
        ("monitor", own.filter, True, False),
    ]
    told = RUNNER.invoke(app, [*options, "--mosquitto", "--account", "boss=aggregator"]).stdout
    assert told == acl(topics, {"boss": Role.AGGREGATOR}, own)


def test_acl_names_the_roles_when_one_is_unknown() -> None:
    outcome = RUNNER.invoke(app, ["acl", "--mosquitto", "--account", "boss=king"])
    assert isinstance(outcome.exception, ConfigError)
    assert "--account boss=king: write NAME=ROLE" in str(outcome.exception)


def test_nobody_has_a_right_under_another_s_name() -> None:
    assert may_write(Role.DEVICE, tree.OFFER, own=True)
    assert not may_write(Role.DEVICE, tree.OFFER, own=False)
    assert not may_read(Role.OPERATOR, tree.CONTROL_REPLY, own=False)
    assert may_read(Role.AGGREGATOR, tree.OFFER, own=False)
    assert may_read(Role.DEVICE, tree.ROUND, own=False)


def test_doctor_says_by_its_exit_status_whether_the_broker_will_do(tmp_path: Path, topics: Topics) -> None:
    with lacking(tmp_path / "b", topics) as broker:
        good = RUNNER.invoke(app, ["doctor", *write_files(tmp_path, broker, "pi-1")])
    assert good.exit_code == 0, good.stdout
    assert "ok      device queue: 5 retained chunks come at once" in good.stdout
    with lacking(tmp_path / "c", topics, "retain_available false") as broker:
        bad = RUNNER.invoke(app, ["doctor", *write_files(tmp_path, broker), "--json"])
    assert bad.exit_code == ExitCode.FAILED
    found = {(f["check"], f["verdict"]) for f in json.loads(bad.stdout)}
    assert ("retained messages", "WRONG") in found
    assert ("rights", "unknown") in found


def test_the_connection_of_a_service_that_runs_here_is_not_ended(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    options = write_files(tmp_path, mosquitto, "pi-1")
    store = Store(tmp_path / "pi-1")
    outcome = RUNNER.invoke(app, ["doctor", *options])
    store.close()
    assert isinstance(outcome.exception, ConfigError)
    assert "pi-1.toml: its service runs here" in str(outcome.exception)


def test_files_of_two_federations_or_none_are_refused(mosquitto: Mosquitto, tmp_path: Path) -> None:
    nothing = RUNNER.invoke(app, ["doctor"])
    assert "which accounts?" in str(nothing.exception)
    options = write_files(tmp_path, mosquitto)
    other = tmp_path / "monitor.toml"
    other.write_text(other.read_text().replace('"lab"', '"other"'))
    mixed = RUNNER.invoke(app, ["doctor", *options])
    assert "several brokers or federations: midge/v1/lab on" in str(mixed.exception)


def test_a_broker_is_one_by_loopback_and_by_its_name(tmp_path: Path) -> None:
    for role, url in {"aggregator": "mqtt://127.0.0.1:1", "operator": "mqtts://broker.example"}.items():
        folder = 'folder = "."\n' if role == "aggregator" else ""
        (tmp_path / f"{role}.toml").write_text(f'{folder}[broker]\nurl = "{url}"\n')
    (tmp_path / "monitor.toml").write_text('[broker]\nurl = "mqtts://other.example"\n')
    files = Files(tmp_path / "aggregator.toml", operator=tmp_path / "operator.toml")
    assert [one.role for one in read_patients(files, tmp_path)] == [Role.AGGREGATOR, Role.OPERATOR]
    with pytest.raises(ConfigError, match="several brokers"):
        read_patients(replace(files, monitor=tmp_path / "monitor.toml"), tmp_path)


def fill(broker: Mosquitto, topics: Topics) -> None:
    """Something retained in each place, and more chunks than a broker's queue holds at once."""
    with Peer(broker.settings("aggregator"), "fill") as aggregator:
        for index in range(12):
            chunk = topics.topic(tree.BLOB_CHUNK, digest="ab" * 32, index=index)
            aggregator.send(chunk, bytes(1000), retain=True)
        for branch in (tree.FEDERATION, tree.ROUND, tree.MONITOR_FEDERATION):
            aggregator.send(topics.topic(branch), b"{}", retain=True)
    for device in ("pi-1", "pi-2"):
        with Peer(broker.settings(device), "fill") as peer:
            peer.send(topics.topic(tree.PRESENCE, device=device), b"{}", retain=True)


def test_purge_leaves_nothing_even_where_the_queue_holds_little(tmp_path: Path, topics: Topics) -> None:
    little = ("max_inflight_messages 5", "max_queued_messages 5")
    with lacking(tmp_path / "b", topics, *little) as broker:
        fill(broker, topics)
        options = write_files(tmp_path, broker, "pi-1", "pi-2")
        refused = RUNNER.invoke(app, ["purge", *options], input="n\n")
        assert refused.exit_code == 1
        done = RUNNER.invoke(app, ["purge", *options, "--yes"])
        assert (done.exit_code, done.exception) == (0, None)
        assert "cleared 17, 0 are left" in done.stdout
        again = RUNNER.invoke(app, ["purge", *options, "--yes"])
    assert "0 topics or more are retained" in again.stdout


def test_purge_names_what_it_may_not_clear_and_what_it_cannot_see(tmp_path: Path, topics: Topics) -> None:
    with lacking(tmp_path / "b", topics) as broker:
        fill(broker, topics)
        write_files(tmp_path, broker, "pi-1")
        watching = ["purge", "--monitor", str(tmp_path / "monitor.toml"), "--yes"]
        outcome = RUNNER.invoke(app, watching)
        assert isinstance(outcome.exception, MidgeError)
        assert "still retained: midge/v1/lab/monitor/federation; stop whoever" in str(outcome.exception)
        files = ["--aggregator", str(tmp_path / "aggregator.toml")]
        blind = RUNNER.invoke(app, ["purge", *files, "--yes"])
    assert blind.exit_code == 0
    # All but the monitor's document, which the aggregator never reads: both devices' presence is among it.
    assert "cleared 16, 0 are left" in blind.stdout
    assert "not proved to be empty: midge/v1/lab/round, midge/v1/lab/blobs/+/+" in blind.stdout


@pytest.mark.parametrize("role", Role)
def test_every_role_needs_something(role: Role, topics: Topics) -> None:
    assert [right for right in rights(topics) if right.role is role]
