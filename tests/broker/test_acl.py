from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.acl import acl, role_acl
from broker.discovery import FEDERATION, Discovery
from broker.mosquitto import Mosquitto
from broker.topics import CONTROL_REQUEST, INBOX, MONITOR_AGGREGATOR, OFFER, RENEW, TREE, Branch, Role, Topics
from tests.broker.peer import Peer, topics_of
from tests.conftest import USERS

FIELDS = {
    "run": "run-1",
    "round": "1",
    "digest": "a" * 64,
    "transfer": "b" * 16,
    "index": "0",
    "token": f"token_{'c' * 32}",
}


def addresses() -> list[tuple[Branch, str]]:
    """Every branch, once for each account that its topics can name, and for one that is none."""
    found = []
    for branch in TREE:
        names = [*USERS, "visitor"] if {"{device}", "{user}"} & set(branch.pattern.split("/")) else ["-"]
        found += [(branch, name) for name in names]
    return found


def topic_of(topics: Topics, branch: Branch, name: str) -> str:
    return topics.topic(branch, **FIELDS, device=name, user=name)


def own(branch: Branch, name: str, user: str, role: Role) -> bool:
    """Whether the topic is the account's: devices and operators speak and listen under their own name."""
    level = {Role.DEVICE: "{device}", Role.OPERATOR: "{user}"}.get(role)
    return level is None or level not in branch.pattern or name == user


def named_like(branch: Branch, name: str) -> bool:
    """Whether a device of that name can exist, so that its topics are anybody's but the device's."""
    return "{device}" in branch.pattern and USERS.get(name, Role.DEVICE) is not Role.DEVICE


def may_write(branch: Branch, name: str, user: str) -> bool:
    role = USERS[user]
    return role in branch.writers and own(branch, name, user, role)


def may_read(branch: Branch, name: str, user: str) -> bool:
    role = USERS[user]
    # Mosquitto cannot deny reading alone: the aggregator hears what it tells every device.
    hears_itself = role in branch.writers and role is not Role.DEVICE and Role.DEVICE in branch.readers
    reads = role in branch.readers or (hears_itself and "{device}" not in branch.pattern)
    return reads and own(branch, name, user, role)


@pytest.mark.parametrize("user", USERS)
def test_an_account_writes_what_the_tree_says_and_nothing_else(
    mosquitto: Mosquitto, topics: Topics, user: str
) -> None:
    wrong = []
    with Peer(mosquitto.settings(user), user) as peer:
        for branch, name in addresses():
            if name == user and named_like(branch, name):
                continue  # denied to the account that bears the name of a device that cannot exist
            answer = peer.send(topic_of(topics, branch, name), b"x")
            if answer.ok != may_write(branch, name, user):
                wrong.append((branch.pattern, name, answer.reason))
            assert answer.ok or answer.reason == "Not authorized"
    assert wrong == []


def test_an_account_reads_what_the_tree_says_and_nothing_else(mosquitto: Mosquitto, topics: Topics) -> None:
    last = {
        "aggregator": ("pi-1", topics.topic(OFFER, device="pi-1")),
        "operator": ("aggregator", topics.topic(MONITOR_AGGREGATOR)),
        "monitor": ("aggregator", topics.topic(MONITOR_AGGREGATOR)),
        "registrar": ("pi-1", topics.topic(RENEW, device="pi-1")),
        **{pi: ("aggregator", topics.topic(INBOX, device=pi)) for pi in ("pi-1", "pi-2", "pi-3")},
    }
    with ExitStack() as stack:
        writers = {user: stack.enter_context(Peer(mosquitto.settings(user), user)) for user in USERS}
        readers = {
            user: stack.enter_context(Peer(mosquitto.settings(user), f"{user}-reader", f"{topics.root}/#"))
            for user in USERS
        }
        written = set()
        for branch, name in addresses():
            for user, writer in writers.items():
                if may_write(branch, name, user) and not (name == user and named_like(branch, name)):
                    assert writer.send(topic_of(topics, branch, name), b"x").ok
                    written.add((branch, name))
        for user, reader in readers.items():
            speaker, topic = last[user]
            assert writers[speaker].send(topic, f"last for {user}".encode()).ok
            heard = topics_of(
                [
                    event
                    for event in reader.receive_until(f"last for {user}".encode())
                    if event.payload == b"x"
                ]
            )
            expected = {
                topic_of(topics, branch, name) for branch, name in written if may_read(branch, name, user)
            }
            assert heard == expected, user


def test_nobody_writes_outside_of_the_root(mosquitto: Mosquitto) -> None:
    for user in USERS:
        with Peer(mosquitto.settings(user), user) as peer:
            assert not peer.send("elsewhere", b"x").ok
            assert not peer.send("midge/v1/other/federation", b"x").ok


def test_a_user_name_that_is_no_id_is_refused(topics: Topics) -> None:
    for name in ("Pi", "a b", "a\ntopic write #", "+", "", "p" * 33):
        with pytest.raises(ValueError, match="is not lower-case letters"):
            acl(topics, {name: Role.DEVICE})


def test_a_device_cannot_have_the_name_of_a_role(topics: Topics) -> None:
    with pytest.raises(ValueError, match="'aggregator' is the name of a role"):
        acl(topics, {"aggregator": Role.DEVICE})


def test_an_operator_has_its_own_control_topics(topics: Topics) -> None:
    rules = acl(topics, {"anna": Role.OPERATOR})
    assert f"topic write {topics.topic(CONTROL_REQUEST, user='anna')}" in rules.splitlines()
    assert "control/+/" not in rules


def test_readers_never_get_write(topics: Topics) -> None:
    lines = acl(topics, {"monitor": Role.MONITOR}).split("user monitor\n")[1].splitlines()
    assert {line.split()[1] for line in lines} == {"read", "deny"}


def test_an_enrolment_account_has_a_list_of_its_own(topics: Topics) -> None:
    with pytest.raises(ValueError, match=r"give it a listener with role_acl\(\)"):
        acl(topics, {"enrolment": Role.ENROLMENT})
    assert role_acl(topics, Role.ENROLMENT).splitlines()[1:] == [
        "pattern write midge/v1/lab/enrol/%u/request",
        "pattern read midge/v1/lab/enrol/%u/reply",
    ]


def test_a_list_of_viewers_lets_nobody_write(topics: Topics) -> None:
    lines = role_acl(topics, Role.MONITOR).splitlines()[1:]
    assert "pattern read midge/v1/lab/monitor/aggregator" in lines
    assert {line.split()[1] for line in lines} == {"read"}


def test_where_home_assistant_is_told_the_aggregator_describes_devices_and_writes_nothing_else(
    tmp_path: Path, topics: Topics
) -> None:
    own = Discovery(topics)
    aggregators = {own.topic(FEDERATION), own.topic("pi-1")}
    foreign = {
        "homeassistant/light/x/config",
        "homeassistant/device/a/b/config",
        "homeassistant/x",
        own.status,
    }
    told = set()
    with Mosquitto(tmp_path / "mosquitto", topics, USERS, discovery=own) as broker, ExitStack() as stack:
        peers = {
            user: stack.enter_context(Peer(broker.settings(user), user, "homeassistant/#")) for user in USERS
        }
        for user, peer in peers.items():
            for topic in aggregators | foreign:
                allowed = user == "aggregator" and topic in aggregators
                assert peer.send(topic, b"x").ok == allowed, (user, topic)
        for user, peer in peers.items():
            peers["aggregator"].send(own.topic("last"), b"last")
            if user == "monitor":
                told = topics_of(peer.receive_until(b"last"))
    assert told == aggregators


def test_no_account_but_those_two_gets_a_right_more_for_home_assistant(topics: Topics) -> None:
    own = Discovery(topics, "ha", "ha/status")
    before, after = (acl(topics, USERS, discovery).splitlines() for discovery in (None, own))
    assert [line for line in after if line not in before] == [
        "topic write ha/device/+/config",
        "topic read ha/status",
        "topic read ha/device/+/config",
    ]
    viewers = role_acl(topics, Role.MONITOR, own).splitlines()
    assert set(viewers) - set(role_acl(topics, Role.MONITOR).splitlines()) == {
        "pattern read ha/device/+/config"
    }
    for role in (Role.DEVICE, Role.ENROLMENT, Role.REGISTRAR, Role.OPERATOR):
        assert role_acl(topics, role, own) == role_acl(topics, role)


def test_a_description_is_named_by_its_topic_alone(topics: Topics) -> None:
    own = Discovery(topics)
    assert own.name_of(own.topic("pi-1")) == "pi-1"
    for topic in (
        own.topic("Pi"),
        own.topic("a/b"),
        Discovery(Topics("other")).topic("pi-1"),
        own.status,
        "",
    ):
        assert own.name_of(topic) is None
