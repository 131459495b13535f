import os
import pwd
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.accounts import users
from broker.events import Disconnected, Received, Refused
from broker.topics import HEARTBEAT, PRESENCE
from deploy.trust.brokerfile import BrokerFile
from deploy.trust.revocation import OwnBroker, Revocation
from host.errors import DataError
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.deploy.trust.ground import Ground, Teller

WATCH_S = 1.0


@pytest.fixture(params=[False, True], ids=["free client ids", "names as client ids"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """Whatever client ids the loopback listener allows."""
    with Ground(tmp_path, name_is_client_id=request.param) as made:
        yield made


@pytest.fixture
def plain_ground(tmp_path: Path) -> Iterator[Ground]:
    with Ground(tmp_path) as made:
        yield made


def revocation(ground: Ground, teller: Teller, file: BrokerFile | None = None) -> Revocation:
    own = OwnBroker(file or ground.file, ground.url)
    return Revocation(ground.authority, own, ground.account("operator"), teller)


def test_a_revoked_device_is_cut_off_and_cannot_return_and_no_other_notices(
    ground: Ground, teller: Teller
) -> None:
    presence = ground.topics.topic(PRESENCE, device="pi-1")
    heard = ground.topics.filter(PRESENCE)
    beat = ground.topics.topic(HEARTBEAT, device="pi-2")
    with (
        Peer(ground.account("aggregator"), "aggregator", heard) as aggregator,
        Peer(ground.device("pi-2"), "pi-2") as other,
        Peer(ground.device("pi-1"), "pi-1") as stolen,
    ):
        assert stolen.send(presence, b"born", retain=True).ok
        assert aggregator.until(Received).payload == b"born"

        stolen_serial = ground.authority.register.of("pi-1")[0].serial[:8]
        code = revocation(ground, teller).revoke("pi-1", "stolen", WATCH_S, exclude=False)

        assert code is ExitCode.OK, teller.said
        stolen.until(Disconnected)
        assert "REVOKED" in stolen.until(Refused).reason
        assert aggregator.until(Received, lambda event: event.topic == presence).payload == b""
        assert other.send(beat, b"x").ok
        assert other.inbox.get(0) is None
    assert users(ground.folder / "accounts") == ["aggregator", "operator", "monitor"]
    assert teller.heard("refuses a certificate of pi-1 as revoked")
    assert teller.heard("pi-1 did not come back")
    # Not that of the trial.
    assert any(line.endswith(f"certificates of pi-1 revoked: {stolen_serial}") for line in teller.said)


def test_a_saved_tls_session_does_not_let_a_revoked_device_in(plain_ground: Ground, teller: Teller) -> None:
    settings = plain_ground.device("pi-1")
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert settings.certificate_file is not None
    context.load_cert_chain(settings.certificate_file, settings.key_file)

    def shake(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", plain_ground.tls)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
        ):
            return secured.session, secured.session_reused

    session, _ = shake(None)
    assert shake(session)[1], "the session would be taken, were it not for the revocation"
    assert revocation(plain_ground, teller).revoke("pi-1", "", WATCH_S, exclude=False) is ExitCode.OK
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        shake(session)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a broker as somebody else")
def test_a_broker_that_reads_its_files_as_a_member_of_their_group_goes_on(teller: Teller) -> None:
    # Where nobody but root comes, this user does not either.
    with tempfile.TemporaryDirectory(prefix="midge-test-") as name:
        folder, nobody = Path(name), pwd.getpwnam("nobody")
        ground = Ground(folder)
        ground.config.write_text(ground.config.read_text().replace("user root", "user nobody"))
        device, other = ground.device("pi-1"), ground.device("pi-2")
        folder.chmod(0o750)
        for path in (folder, *folder.iterdir()):
            os.chown(path, 0, nobody.pw_gid)
            if path.is_file():
                path.chmod(0o640)
        with ground, Peer(device, "pi-1"):
            assert revocation(ground, teller).revoke("pi-1", "", WATCH_S, exclude=False) is ExitCode.OK, (
                teller.said
            )
            with Peer(other, "pi-2") as peer:
                assert peer.send(ground.topics.topic(HEARTBEAT, device="pi-2"), b"x").ok
            with Peer(ground.account("operator"), "operator"):
                pass


def test_a_device_is_revoked_again_without_harm(plain_ground: Ground, teller: Teller) -> None:
    plain_ground.device("pi-1")
    for _ in range(2):
        code = revocation(plain_ground, teller).revoke("pi-1", "", 0.1, exclude=False)
        assert code is ExitCode.OK


def test_a_certificate_that_is_issued_meanwhile_is_revoked_as_well(plain_ground: Ground) -> None:
    plain_ground.device("pi-1")
    said: list[str] = []

    def renew_meanwhile(step: str, text: str) -> None:
        said.append(text)
        if step == "connection" and sum("is taken over" in line for line in said) == 1:
            plain_ground.device("pi-1")

    steps = Revocation(
        plain_ground.authority,
        OwnBroker(plain_ground.file, plain_ground.url),
        plain_ground.account("operator"),
        renew_meanwhile,
    )
    assert steps.revoke("pi-1", "", 0.1, exclude=False) is ExitCode.OK
    assert "another certificate of pi-1 was issued meanwhile: once more" in said
    assert all(row.revoked_at for row in plain_ground.authority.register.of("pi-1"))
    peer = Peer(plain_ground.device_settings("pi-1"), "pi-1")
    assert "REVOKED" in peer.until(Refused).reason
    peer.session.stop()


def test_a_replacement_comes_in_under_the_same_name(plain_ground: Ground, teller: Teller) -> None:
    plain_ground.device("pi-1")
    assert revocation(plain_ground, teller).revoke("pi-1", "broken", 0.1, exclude=False) is ExitCode.OK
    with Peer(plain_ground.device("pi-1"), "pi-1") as replacement:
        assert replacement.send(plain_ground.topics.topic(HEARTBEAT, device="pi-1"), b"x").ok


def test_a_broker_that_does_not_read_the_list_is_found_out(
    plain_ground: Ground, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = plain_ground.folder / "elsewhere.crl"
    text = plain_ground.config.read_text()
    # The broker goes on with the settings that it was started with: only lists are read again.
    plain_ground.config.write_text(text.replace("crl.pem", elsewhere.name))
    file = plain_ground.file
    plain_ground.config.write_text(text)
    monkeypatch.setattr("deploy.trust.revocation.HEEDED_S", 0.5)
    with Peer(plain_ground.device("pi-1"), "pi-1"):
        code = revocation(plain_ground, teller, file).revoke("pi-1", "", WATCH_S, exclude=False)
        assert code is ExitCode.FAILED
        assert teller.heard("was NOT seen to refuse a certificate of pi-1")
        assert teller.heard("pi-1 is BACK"), teller.said
    assert users(plain_ground.folder / "accounts") == ["aggregator", "operator", "monitor"]


def test_a_broker_that_does_not_run_is_told(tmp_path: Path, teller: Teller) -> None:
    ground = Ground(tmp_path)
    ground.device("pi-1")
    assert revocation(ground, teller).revoke("pi-1", "", WATCH_S, exclude=False) is ExitCode.FAILED
    assert teller.heard(f"no mosquitto runs with -c {ground.config}")
    assert ground.authority.register.of("pi-1")[0].revoked_at is not None


def test_who_never_had_a_certificate_cannot_be_revoked(plain_ground: Ground, teller: Teller) -> None:
    with pytest.raises(DataError, match="no certificate was ever issued to 'pi-9'"):
        revocation(plain_ground, teller).revoke("pi-9", "", WATCH_S)
    with pytest.raises(DataError, match="midge rotate broker"):
        revocation(plain_ground, teller).revoke("broker", "", WATCH_S)
    assert teller.said == []


def test_without_an_aggregator_the_rest_is_done_and_the_status_says_so(
    plain_ground: Ground, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.trust.revocation.ASKED_S", 0.5)
    plain_ground.device("pi-1")
    assert revocation(plain_ground, teller).revoke("pi-1", "", 0.1) is ExitCode.UNREACHABLE
    assert teller.heard("when it runs: midge exclude pi-1")
    assert teller.heard("refuses a certificate of pi-1")


def test_on_a_foreign_broker_the_register_and_the_aggregator_are_all_there_is(
    plain_ground: Ground, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.trust.revocation.ASKED_S", 0.5)
    plain_ground.device("pi-1")
    foreign = Revocation(plain_ground.authority, None, plain_ground.account("operator"), teller)
    assert foreign.revoke("pi-1", "", WATCH_S) is ExitCode.UNREACHABLE
    assert teller.heard("is not ours")
    assert plain_ground.authority.register.of("pi-1")[0].revoked_at is not None
