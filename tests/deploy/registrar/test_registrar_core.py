import functools
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.enrolment import (
    EnrolmentRequest,
    Issued,
    Refusal,
    RefusalReason,
    RenewalRequest,
    Token,
    digest_of,
    key_digest,
    show,
)
from broker.topics import ENROL_REPLY, ENROL_REQUEST, RENEW, RENEWED, Topics
from deploy.pki.authority import Authority
from deploy.registrar.allowance import Allowance
from deploy.registrar.core import BURST, EVERY_S, RENEWALS_BURST, RENEWED_AFTER, STRANGERS_BURST, Registrar
from deploy.registrar.events import (
    Claim,
    Effect,
    EnrolmentAsked,
    Keep,
    Note,
    RenewalAsked,
    Reply,
    Sign,
    Signed,
    Standing,
)
from deploy.registrar.standing import is_outdated, standing_of
from deploy.registrar.tokens import Renewed, TokenRow
from host.certificates import new_key, request
from tests.deploy.registrar.chains import chain_for

NOW = 1_800_000_000.0
DAY_S = 86_400.0
TOPICS = Topics("lab")
KEYS = [new_key(), new_key()]
REQUESTS = [request(key, "anybody") for key in KEYS]
TOKEN = Token.new()
ROW = TokenRow(TOKEN.id, "pi-1", TOKEN.public_key, NOW, NOW + 60)
STANDING = Standing("1", NOW - 70 * DAY_S, NOW + 30 * DAY_S)
CHAIN = chain_for(KEYS[0], "pi-1", NOW + 90 * DAY_S)


def enrolling(row: TokenRow | None = ROW, token: Token = TOKEN, asked: bytes = REQUESTS[0]) -> EnrolmentAsked:
    topic = TOPICS.topic(ENROL_REQUEST, token=TOKEN.id)
    return EnrolmentAsked(TOKEN.id, EnrolmentRequest(request=asked, proof=token.prove(topic, asked)), row)


def renewing(
    standing: Standing | None = STANDING,
    key: bytes = KEYS[0],
    device: str = "pi-1",
    last: Renewed | None = None,
) -> RenewalAsked:
    proof = show(key, TOPICS.topic(RENEW, device="pi-1"), REQUESTS[1])
    asked = RenewalRequest(request=REQUESTS[1], certificate=CHAIN, proof=proof)
    return RenewalAsked(device, asked, standing, last)


def without_notes(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Note)]


def refusal(effects: list[Effect]) -> Refusal:
    (reply,) = without_notes(effects)
    assert isinstance(reply, Reply)
    assert isinstance(reply.answer, Refusal)
    return reply.answer


def test_a_token_is_claimed_before_anything_is_signed_and_kept_before_it_is_told() -> None:
    core = Registrar(TOPICS)
    claim, sign = core.handle(enrolling(), NOW)
    assert claim == Claim(TOKEN.id, key_digest(REQUESTS[0]))
    assert isinstance(sign, Sign)
    assert (sign.order.device, sign.order.asked) == ("pi-1", REQUESTS[0])
    keep, reply = without_notes(core.handle(Signed(sign.order, CHAIN), NOW))
    assert keep == Keep(sign.order, CHAIN)
    wait_s = 90 * DAY_S * RENEWED_AFTER
    issued = Issued(request=digest_of(REQUESTS[0]), chain=CHAIN, renew_after_s=wait_s)
    assert reply == Reply(ENROL_REPLY, TOKEN.id, issued)


def test_a_young_certificate_of_an_authority_that_gives_way_is_renewed_at_once() -> None:
    young = Standing("1", NOW - DAY_S, NOW + 99 * DAY_S)
    assert refusal(Registrar(TOPICS).handle(renewing(young), NOW)).reason is RefusalReason.TOO_EARLY
    (sign,) = Registrar(TOPICS).handle(replace(renewing(young), outdated=True), NOW)
    assert isinstance(sign, Sign)


def test_the_id_comes_from_the_token_and_not_from_the_request() -> None:
    sign = Registrar(TOPICS).handle(enrolling(asked=request(KEYS[0], "aggregator")), NOW)[1]
    assert isinstance(sign, Sign)
    assert sign.order.device == "pi-1"


def test_a_lost_answer_is_given_again_to_the_same_key_even_when_the_token_expired() -> None:
    row = replace(ROW, claimed_by=key_digest(REQUESTS[0]), chain=CHAIN)
    again = request(KEYS[0], "pi-1")
    (reply,) = without_notes(Registrar(TOPICS).handle(enrolling(row, asked=again), NOW + 3600))
    assert isinstance(reply, Reply)
    assert isinstance(reply.answer, Issued)
    assert (reply.answer.chain, reply.answer.request) == (CHAIN, digest_of(again))


def test_a_claim_whose_signing_was_cut_short_is_taken_up_again() -> None:
    row = replace(ROW, claimed_by=key_digest(REQUESTS[0]))
    assert isinstance(Registrar(TOPICS).handle(enrolling(row), NOW + 3600)[1], Sign)


# Of a version that X.509 has not, and for a key of an unknown kind.
VERSIONLESS, KEYLESS = (
    ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(CHAIN.decode()).replace(*change, 1)).encode()
    for change in (
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),
        (bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0202")),
    )
)


@pytest.mark.parametrize("shown", [VERSIONLESS, KEYLESS], ids=["version", "key"])
def test_a_certificate_that_cannot_be_read_is_refused_and_ends_nothing(shown: bytes, tmp_path: Path) -> None:
    event = renewing()
    event = replace(event, asked=event.asked.model_copy(update={"certificate": shown}))
    assert refusal(Registrar(TOPICS).handle(event, NOW)).reason is RefusalReason.BAD_PROOF
    authority = Authority.create(tmp_path / "pki", "lab")
    assert standing_of(authority, "pi-1", shown) is None
    assert is_outdated(authority, event.asked)


FAULTS: dict[str, tuple[EnrolmentAsked | RenewalAsked, float, RefusalReason]] = {
    "unknown token": (enrolling(None), NOW, RefusalReason.UNKNOWN),
    "expired token": (enrolling(), NOW + 60, RefusalReason.EXPIRED),
    "used": (enrolling(replace(ROW, claimed_by="f" * 64, chain=CHAIN)), NOW, RefusalReason.USED),
    "claimed": (enrolling(replace(ROW, claimed_by="f" * 64)), NOW, RefusalReason.USED),
    "withdrawn": (enrolling(replace(ROW, withdrawn=True)), NOW, RefusalReason.REVOKED),
    "proof of another token": (enrolling(token=Token.new()), NOW, RefusalReason.BAD_PROOF),
    "no point of the curve": (enrolling(replace(ROW, public_key="0" * 64)), NOW, RefusalReason.BAD_PROOF),
    "no request": (enrolling(asked=b"no request"), NOW, RefusalReason.BAD_REQUEST),
    "foreign certificate": (renewing(None), NOW, RefusalReason.UNKNOWN),
    "revoked": (renewing(replace(STANDING, revoked=True)), NOW, RefusalReason.REVOKED),
    "expired certificate": (renewing(), STANDING.expires_unix_s, RefusalReason.EXPIRED),
    "another key": (renewing(key=KEYS[1]), NOW, RefusalReason.BAD_PROOF),
    "topic of another device": (renewing(device="pi-2"), NOW, RefusalReason.BAD_PROOF),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refusal_says_why(fault: str) -> None:
    event, now, reason = FAULTS[fault]
    answer = refusal(Registrar(TOPICS).handle(event, now))
    assert (answer.reason, answer.request) == (reason, digest_of(event.asked.request))


def test_a_proof_for_one_federation_is_none_in_another() -> None:
    assert refusal(Registrar(Topics("other")).handle(enrolling(), NOW)).reason is RefusalReason.BAD_PROOF


def test_a_certificate_is_renewed_after_two_thirds_of_its_life_and_not_before() -> None:
    standing = Standing("1", NOW, NOW + 90 * DAY_S)
    early = refusal(Registrar(TOPICS).handle(renewing(standing), NOW + 10 * DAY_S))
    assert early.reason is RefusalReason.TOO_EARLY
    assert early.wait_s == pytest.approx(50 * DAY_S)
    (sign,) = Registrar(TOPICS).handle(renewing(standing), NOW + 60 * DAY_S)
    assert isinstance(sign, Sign)
    keep, reply = without_notes(Registrar(TOPICS).handle(Signed(sign.order, CHAIN), NOW))
    assert keep == Keep(sign.order, CHAIN)
    assert isinstance(reply, Reply)
    assert (reply.branch, reply.name) == (RENEWED, "pi-1")


def test_a_renewal_that_was_lost_is_given_again_to_the_same_key() -> None:
    last = Renewed(key_digest(REQUESTS[1]), CHAIN)
    (reply,) = without_notes(Registrar(TOPICS).handle(renewing(last=last), NOW))
    assert isinstance(reply, Reply)
    assert isinstance(reply.answer, Issued)


def test_a_device_is_given_few_certificates_in_an_hour_whatever_roots_it_claims() -> None:
    core, now = Registrar(TOPICS), NOW
    for _ in range(RENEWALS_BURST):
        assert isinstance(core.handle(replace(renewing(), outdated=True), now)[0], Sign)
        now += EVERY_S
    answer = refusal(core.handle(replace(renewing(), outdated=True), now))
    assert answer.reason is RefusalReason.BUSY
    assert isinstance(core.handle(replace(renewing(), outdated=True), now + answer.wait_s)[0], Sign)


def test_a_certificate_whose_forerunner_was_revoked_meanwhile_is_not_handed_out() -> None:
    core = Registrar(TOPICS)
    (sign,) = core.handle(renewing(), NOW)
    assert isinstance(sign, Sign)
    assert sign.order.serial == STANDING.serial
    assert refusal(core.handle(Signed(sign.order, CHAIN, revoked=True), NOW)).reason is RefusalReason.REVOKED


@pytest.mark.parametrize("event", [enrolling(), renewing()], ids=["enrolment", "renewal"])
def test_by_a_clock_that_must_be_wrong_nothing_is_judged(event: EnrolmentAsked | RenewalAsked) -> None:
    core = Registrar(TOPICS, since=NOW)
    effects = core.handle(event, 1000.0)
    answer = refusal(effects)
    assert (answer.reason, answer.wait_s > 0) == (RefusalReason.BUSY, True)
    (note,) = (effect for effect in effects if isinstance(effect, Note))
    assert "the clock of this machine says 1970-01-01" in note.text
    assert any(isinstance(effect, Sign) for effect in core.handle(event, NOW))


def test_who_asks_too_often_is_told_when_to_ask_again() -> None:
    core = Registrar(TOPICS)
    for _ in range(BURST):
        core.handle(enrolling(), NOW)
    answer = refusal(core.handle(enrolling(), NOW))
    assert answer.reason is RefusalReason.BUSY
    assert answer.wait_s == pytest.approx(EVERY_S)
    assert isinstance(core.handle(enrolling(), NOW + EVERY_S)[1], Sign)


def test_strangers_beyond_their_number_get_no_answer_and_hinder_nobody() -> None:
    core = Registrar(TOPICS)
    for _ in range(STRANGERS_BURST):
        assert core.handle(enrolling(None), NOW)
    assert core.handle(enrolling(None), NOW) == []
    assert isinstance(core.handle(enrolling(), NOW)[1], Sign)


@given(st.lists(st.floats(-1000, 1000), max_size=200))
def test_no_clock_gives_more_permits_than_the_burst(steps: list[float]) -> None:
    allowance, now = Allowance(3, 10.0), NOW
    for step in steps:
        now += step
        assert sum(allowance.wait_s("pi", now) == 0 for _ in range(5)) <= 3


def test_names_beyond_the_limit_are_forgotten_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.registrar.allowance.MAX_NAMES", 2)
    allowance = Allowance(1, 10.0)
    assert [allowance.wait_s(name, NOW) for name in ("a", "b", "a")] == [0, 0, 10]
    assert allowance.wait_s("c", NOW) == 0
    assert allowance.wait_s("a", NOW) == 10
    assert len(allowance._buckets) == 2


@functools.cache
def chain_of(key: int) -> bytes:
    return chain_for(KEYS[key], "pi-1", NOW + 90 * DAY_S)


class Enrolments(RuleBasedStateMachine):
    """One token, two keys, lost answers, crashes: never has more than one key a certificate."""

    @initialize()
    def begin(self) -> None:
        self.row = ROW
        self.now = NOW
        self.told: set[bytes] = set()
        self.core = Registrar(TOPICS)

    @rule(key=st.sampled_from([0, 1]), dies_before=st.sampled_from([None, Claim, Sign, Keep, Reply]))
    def asks(self, key: int, dies_before: type[Effect] | None) -> None:
        pending = list(self.core.handle(enrolling(self.row, asked=REQUESTS[key]), self.now))
        while pending:
            effect = pending.pop(0)
            if dies_before is not None and isinstance(effect, dies_before):
                self.core = Registrar(TOPICS)
                return
            self.now += 1
            match effect:
                case Claim(_, digest):
                    assert self.row.claimed_by in {None, digest}
                    self.row = replace(self.row, claimed_by=digest)
                case Sign(order):
                    assert self.row.claimed_by == order.key
                    pending += self.core.handle(Signed(order, chain_of(key)), self.now)
                case Keep(_, chain):
                    self.row = replace(self.row, chain=chain)
                case Reply(_, _, Issued() as issued):
                    assert self.row.chain == issued.chain
                    self.told.add(issued.chain)

    @rule(seconds=st.sampled_from([1.0, 15.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def one_key_at_most_has_a_certificate(self) -> None:
        assert len(self.told) <= 1

    @invariant()
    def whoever_claimed_the_token_in_time_gets_its_certificate(self) -> None:
        if self.row.claimed_by is not None:
            key = next(i for i in (0, 1) if key_digest(REQUESTS[i]) == self.row.claimed_by)
            effects = Registrar(TOPICS).handle(enrolling(self.row, asked=REQUESTS[key]), self.now)
            assert not any(isinstance(e, Reply) and isinstance(e.answer, Refusal) for e in effects)


TestEnrolments = Enrolments.TestCase
