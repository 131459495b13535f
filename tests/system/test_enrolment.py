"""Devices that get their certificates from the registrar, over the broker that midge init set up."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.enrolment import Issued, RenewalRequest, digest_of
from broker.events import Received
from broker.topics import RENEW, RENEWED, Role
from broker.wire import decode, encode
from deploy.pki.authority import Authority
from edge_agent.identity import CONFIGURED, Identity
from edge_agent.settings import AgentSettings
from host.certificates import not_after
from host.settings import load_settings
from tests.broker.peer import Peer
from tests.system.secured import DAY_S, REGISTRAR, SecuredLab

# Ends itself, as a power cut would, the first time that an answer is ready to go out.
DYING = """
import os, signal
from deploy.registrar.service import Service
Service.answer = lambda self, effect: os.kill(os.getpid(), signal.SIGKILL)
"""
CLOCK = """
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static const time_t start = %d;
int clock_gettime(clockid_t clock, struct timespec *t) {
    int outcome = syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME) t->tv_sec -= start;
    return outcome;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SecuredLab]:
    with SecuredLab(tmp_path) as started:
        yield started


@pytest.fixture
def clock_of_1970(tmp_path: Path) -> str:
    """A library that has a process think that 1970 began a minute before this test did."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to set a process's clock")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK % (time.time() - 60))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    return str(library)


def record(lab: SecuredLab, name: str) -> dict[str, Any]:
    path = lab.state(name) / "certificates.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def shown(lab: SecuredLab, name: str) -> bytes:
    """The certificate that an agent shows."""
    current = str(record(lab, name)["current"])
    return (lab.state(name) / "certificates" / current / "device.crt").read_bytes()


def note_that_renewal_is_due(lab: SecuredLab, bundle: Path, name: str) -> Identity:
    settings = load_settings(AgentSettings, bundle / "agent.toml", {}, {})
    lab.state(name).mkdir()
    identity = Identity(lab.state(name), settings.broker)
    identity.note(0, time.time())
    return identity


@pytest.mark.timeout(240)
def test_a_device_with_a_token_and_a_clock_in_1970_enrols_and_trains(
    lab: SecuredLab, clock_of_1970: str
) -> None:
    lab.start_aggregator()
    lab.start_registrar()
    bundle = lab.token_bundle("pi-1")
    secret = (bundle / "token").read_text().strip()
    agent = lab.start_bundle(bundle, "pi-1", LD_PRELOAD=clock_of_1970)
    lab.until_state("pi-1", "idle")
    assert not (bundle / "token").exists()

    run = lab.start_run(rounds=1, min_devices=1, deadline_s=36_000.0)
    done = lab.until_round(run, 1, "closed")
    assert done["participants"]["pi-1"]["status"] == "accepted"
    assert agent.stop() == 0
    said = lab.log("pi-1") + lab.log("registrar") + (lab.home.root / "mosquitto.log").read_text()
    assert secret.partition(".")[2] not in said

    lab.start_bundle(bundle, "pi-1")
    lab.until_logged("pi-1", "connected to", times=2)
    assert "enrolling" not in lab.log("pi-1").partition("stopping: SIGTERM")[2]


def test_another_token_enrols_a_device_again(lab: SecuredLab) -> None:
    lab.start_registrar()
    bundle = lab.token_bundle("pi-1")
    agent = lab.start_bundle(bundle, "pi-1")
    lab.until_logged("pi-1", "connected to")
    first = shown(lab, "pi-1")
    agent.stop()
    shutil.rmtree(bundle)
    lab.start_bundle(lab.token_bundle("pi-1"), "pi-1")
    lab.until_logged("pi-1", "connected to", times=2)
    assert shown(lab, "pi-1") != first


@pytest.mark.timeout(240)
def test_a_registrar_killed_before_its_answer_gives_the_same_one_and_the_token_serves_nobody_else(
    lab: SecuredLab,
) -> None:
    bundle = lab.token_bundle("pi-1")
    thief = shutil.copytree(bundle, lab.folder / "thief")
    dying = lab.start_registrar(DYING + REGISTRAR)
    lab.start_bundle(bundle, "pi-1")
    assert dying.wait() == -9
    (row,) = lab.home.tokens().all()
    assert row.chain is not None

    registrar = lab.start_registrar()
    lab.until_logged("pi-1", "connected to")
    assert shown(lab, "pi-1") == row.chain
    assert [issued.name for issued in lab.home.authority().register.all()].count("pi-1") == 1

    lab.start_bundle(thief, "thief")
    lab.until_logged("thief", "another key was enrolled with this token")
    assert lab.home.tokens().all() == [row]
    assert registrar.stop() == 0


@pytest.mark.timeout(240)
def test_a_certificate_is_renewed_during_a_run_that_loses_nothing(lab: SecuredLab) -> None:
    lab.start_aggregator()
    lab.start_registrar(certificate_days=24 / DAY_S)
    lab.start_bundle(lab.token_bundle("pi-1"), "pi-1")
    lab.until_state("pi-1", "idle")
    first = shown(lab, "pi-1")
    run = lab.start_run(rounds=500, min_devices=1, deadline_s=36_000.0, steps=2000, batch_size=16)
    lab.until_round(run, 1, "closed")
    # A slow machine may have renewed the first time before the run began.
    times = lab.log("pi-1").count("the certificate is renewed") + 1
    lab.until_logged("pi-1", "the certificate is renewed", times=times)
    newest = max(int(name.rpartition("/")[2]) for name in lab.documents if f"runs/{run}/rounds/" in name)
    lab.until_round(run, newest + 2, "closed")

    closed = [document for _, document in lab.history if document.get("phase") == "closed"]
    assert {document["participants"]["pi-1"]["status"] for document in closed} == {"accepted"}
    assert not_after(shown(lab, "pi-1")) > not_after(first)
    lab._wait(lambda: record(lab, "pi-1")["before"] is None, "the old one given up", "pi-1")


def test_a_young_certificate_is_not_renewed_and_the_device_told_when(lab: SecuredLab) -> None:
    bundle = lab.bundle("pi-1")
    note_that_renewal_is_due(lab, bundle, "pi-1")
    lab.start_registrar()
    lab.until_logged("registrar", "connected to")
    lab.start_bundle(bundle, "pi-1")
    lab.until_logged("registrar", "pi-1 is refused: too-early")
    lab._wait(lambda: record(lab, "pi-1")["renew_unix_s"] > time.time() + 400 * DAY_S, "noted", "pi-1")
    assert record(lab, "pi-1")["current"] == CONFIGURED


def test_a_device_goes_back_when_the_broker_refuses_its_renewed_certificate(lab: SecuredLab) -> None:
    bundle = lab.bundle("pi-1")
    note_that_renewal_is_due(lab, bundle, "pi-1")
    stranger = Authority.create(lab.folder / "stranger", "lab")
    topics = lab.home.topics
    with Peer(lab.registrar_account(), "registrar", topics.filter(RENEW)) as peer:
        lab.start_bundle(bundle, "pi-1")
        asked = decode(RenewalRequest, peer.until(Received).payload).request
        chain = stranger.sign("pi-1", Role.DEVICE, asked)
        answer = Issued(request=digest_of(asked), chain=chain, renew_after_s=1.0)
        peer.send(topics.topic(RENEWED, device="pi-1"), encode(answer))
    lab.until_logged("pi-1", "going back to the one before")
    lab.until_logged("pi-1", "connected to", times=2)
    assert record(lab, "pi-1")["current"] == CONFIGURED
