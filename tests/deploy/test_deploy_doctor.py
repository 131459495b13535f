"""The doctor on real brokers: one that is as it should be, and those that each lack something."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics
from deploy.foreign.doctor import examine
from deploy.foreign.finding import Check, Finding, Verdict
from deploy.foreign.patients import Files, Patient, read_patients
from deploy.foreign.purge import find_retained
from deploy.home.bundle import agent_settings, enrol_by_token
from host.errors import ConfigError
from tests.deploy.home.federation import enrolled, make_home, reload, running
from tests.deploy.lacking import USERS, lacking

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
CHUNK = 96 << 10


def patients(broker: Mosquitto, *users: str) -> list[Patient]:
    return [Patient(USERS[user], user, broker.settings(user)) for user in users or list(USERS)[:4]]


def wrong(findings: list[Finding]) -> list[str]:
    return [f"{f.who} {f.check}: {f.text}" for f in findings if f.verdict is Verdict.WRONG]


def test_a_broker_with_the_generated_rights_does_all_that_is_needed(
    mosquitto: Mosquitto,
) -> None:
    findings = list(examine(patients(mosquitto), CHUNK, NOW))
    assert wrong(findings) == []
    assert {f.check for f in findings} == set(Check)
    assert {f.verdict for f in findings} == {Verdict.OK}
    told = [f.text for f in findings if f.check is Check.RIGHTS]
    assert len(told) == 4
    assert all(re.search(r"needs \(\d+ of the topics tried\), and none of the \d+ others", t) for t in told)


def test_rights_that_are_too_wide_are_told_topic_by_topic(tmp_path: Path, topics: Topics) -> None:
    with lacking(tmp_path, topics, rights="pattern readwrite #\n") as broker:
        found = wrong(list(examine(patients(broker), CHUNK, NOW)))
    for text in (
        "device rights: may write midge/v1/lab/round, which is not for it; take that right away",
        "device rights: may write midge/v1/lab/devices/midge-doctor/offer, which is not for it",
        "device rights: may read midge/v1/lab/devices/midge-doctor/inbox, which is not for it",
        "monitor rights: may write midge/v1/lab/monitor/federation, which is not for it",
        "operator rights: may write midge/v1/lab/control/midge-doctor/request, which is not for it",
    ):
        assert [line for line in found if line.startswith(text)], text


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "pattern write midge/v1/lab/devices/%u/offer",
            "device rights: may not write midge/v1/lab/devices/pi-1/offer: Not authorized; give it",
        ),
        (
            "pattern read midge/v1/lab/round",
            "device rights: does not get midge/v1/lab/round from aggregator; give it the right to read that",
        ),
        (
            "topic read midge/v1/lab/devices/+/heartbeat",
            "aggregator rights: does not get midge/v1/lab/devices/pi-1/heartbeat from device; give",
        ),
    ],
    ids=["to write", "to read", "of the aggregator"],
)
def test_a_right_that_is_missing_is_told(tmp_path: Path, topics: Topics, missing: str, told: str) -> None:
    good = Mosquitto(tmp_path / "good", topics, USERS)
    del good
    lines = (tmp_path / "good" / "acl").read_text().splitlines(keepends=True)
    assert f"{missing}\n" in lines
    rights = "".join(line for line in lines if line != f"{missing}\n")
    with lacking(tmp_path / "lacking", topics, rights=rights) as broker:
        found = wrong(list(examine(patients(broker), CHUNK, NOW)))
    assert [line for line in found if line.startswith(told)], found


LACKS = {
    "retained messages": (
        ("retain_available false",),
        "broker retained messages: the broker does not do that",
    ),
    "QoS 1": (("max_qos 0",), "broker QoS 1: the broker does not do that"),
    "large packets": (
        ("max_packet_size 50000",),
        "broker packet size: 50,000 bytes at most, 99,328 are needed; raise max_packet_size",
    ),
    "a queue": (
        ("max_inflight_messages 1", "max_queued_messages 1"),
        "device queue: of 5 retained chunks asked for at once",
    ),
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_a_broker_lacks_is_told_with_its_cure(tmp_path: Path, topics: Topics, lack: str) -> None:
    lines, told = LACKS[lack]
    with lacking(tmp_path, topics, *lines) as broker:
        found = wrong(list(examine(patients(broker), CHUNK, NOW)))
    assert [line for line in found if line.startswith(told)], found


def test_an_account_that_is_refused_and_a_clock_that_was_never_set_are_told(mosquitto: Mosquitto) -> None:
    one = patients(mosquitto, "monitor")[0]
    stranger = Patient(one.role, "monitor", one.settings.model_copy(update={"username": "nobody"}))
    found = wrong(list(examine([stranger], CHUNK, datetime(1970, 1, 1, tzinfo=UTC))))
    assert len(found) == 2
    assert found[0].startswith("broker clock: this machine says 1970-01-01: ")
    assert "refuses us: Not authorized; check username and password_file" in found[1]


def test_what_cannot_be_tried_without_other_roles_is_unknown_and_not_wrong(mosquitto: Mosquitto) -> None:
    findings = list(examine(patients(mosquitto, "monitor"), CHUNK, NOW))
    assert wrong(findings) == []
    unknown = {f.check for f in findings if f.verdict is Verdict.UNKNOWN}
    assert unknown == {Check.RIGHTS, Check.QUEUE}


def test_nothing_of_the_trial_stays_on_the_broker(mosquitto: Mosquitto) -> None:

    list(examine(patients(mosquitto), CHUNK, NOW))
    assert find_retained(patients(mosquitto)) == frozenset()


def test_registrar_and_token_are_tried_on_their_listeners(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    enrol_by_token(home, home.tokens(), agent_settings(home, "pi-1", {}, by_token=True), 600)
    files = Files(
        registrar=home.of(Role.REGISTRAR) / "registrar.toml", enrolment=home.devices / "pi-1/agent.toml"
    )
    with running(home) as broker:
        found = list(examine(read_patients(files, tmp_path), CHUNK, NOW))
        assert wrong(found) == []
        fine = {f.who for f in found if f.check is Check.RIGHTS and f.verdict is Verdict.OK}
        assert fine == {Role.REGISTRAR, Role.ENROLMENT}
        rights = home.broker / "enrolment.acl"
        rights.write_text(rights.read_text().replace("enrol/%u/", "enrol/+/"))
        reload(home, broker)
        (tmp_path / "again").mkdir()
        found = list(examine(read_patients(files, tmp_path / "again"), CHUNK, NOW))
    assert "enrolment rights: may write midge/v1/lab/enrol/midge-doctor/request" in "".join(wrong(found))


def test_without_a_token_it_says_what_is_missing(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    enrolled(home, "pi-1")
    with pytest.raises(ConfigError, match="midge enroll --token"):
        read_patients(Files(enrolment=home.devices / "pi-1/agent.toml"), tmp_path)
    bundle = enrol_by_token(home, home.tokens(), agent_settings(home, "pi-2", {}, by_token=True), 600)
    (bundle / "token").unlink()
    with pytest.raises(ConfigError, match="token cannot be used"):
        read_patients(Files(enrolment=bundle / "agent.toml"), tmp_path)
