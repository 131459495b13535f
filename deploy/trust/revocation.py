"""Revoking a device, step by step; each says what it did and what it saw."""

from collections.abc import Callable
from dataclasses import dataclass

from broker.control import Verb
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.control import CredentialsError, UnansweredError, ask, new_request
from deploy.pki.authority import BROKER, Authority
from deploy.pki.register import Issued
from deploy.trust.brokerfile import BrokerFile
from deploy.trust.canary import Canary, canary
from deploy.trust.eviction import evicted
from host.errors import DataError, MidgeError
from host.exits import ExitCode
from host.files import write_atomic

HEEDED_S = 5.0
ASKED_S = 10.0
CRL_MODE = 0o644


@dataclass(frozen=True)
class OwnBroker:
    """A Mosquitto whose files and process are ours."""

    file: BrokerFile
    url: str
    """Its listener for devices, as it is reached from here."""


@dataclass(frozen=True)
class Revocation:
    """What it takes to revoke a device; `own` is None where the broker is not ours."""

    authority: Authority
    own: OwnBroker | None
    operator: BrokerSettings
    say: Callable[[str, str], None]
    """Shows a step and what came of it."""

    def revoke(self, device: str, reason: str, watch_s: float, *, exclude: bool = True) -> ExitCode:
        """Carry out every step that can be; the first that failed decides.

        Raises DataError for who never had a certificate.
        """
        outcomes = [self._cut_off(device, watch_s)]
        if exclude:
            outcomes.append(self._have_excluded(device, reason))
        return next((code for code in outcomes if code is not ExitCode.OK), ExitCode.OK)

    def _cut_off(self, device: str, watch_s: float) -> ExitCode:
        role = self._role_of(device)
        if self.own is None:
            self._enter(device, self.authority.revoke(device))
            self.say("broker", "is not ours: whoever runs it has to refuse the certificate, or the account")
            return ExitCode.OK
        with canary(self.authority, device, role, self.own.url) as bird:
            revoked = self.authority.revoke(device)
            self._enter(device, [row for row in revoked if row.serial != bird.serial])
            try:
                self._hand_over()
            except (MidgeError, OSError) as error:
                self.say("broker", f"did not get the list: {error}")
                return ExitCode.FAILED
            heeded = self._heeded(bird)
        evicted = self._evict(device, watch_s)
        # A renewal that the registrar was at when this began; the device cannot ask for another one.
        if not evicted and self.authority.revoke(device):
            self.say("register", f"another certificate of {device} was issued meanwhile: once more")
            return self._cut_off(device, watch_s)
        return heeded or evicted

    def _role_of(self, device: str) -> Role:
        rows = self.authority.register.of(device)
        if not rows:
            raise DataError(f"no certificate was ever issued to {device!r}: midge devices lists who has one")
        if rows[-1].role == BROKER:
            raise DataError("the broker has no place to be put out of: midge rotate broker")
        return Role(rows[-1].role)

    def _enter(self, device: str, revoked: list[Issued]) -> None:
        serials = ", ".join(row.serial[:8] for row in revoked) or "none that was not revoked before"
        self.say("register", f"certificates of {device} revoked: {serials}")

    def _hand_over(self) -> None:
        assert self.own is not None
        lists = self.own.file.files("crlfile")
        if not lists:
            raise MidgeError(f"{self.own.file.path} names no crlfile: add one to the listener for devices")
        with self.authority.listed(*lists) as content:
            for path in lists:
                write_atomic(path, content, mode=CRL_MODE)
                self.say("list", f"{path} is written")
        self.say("broker", f"process {self.own.file.reload()} reads it again")

    def _heeded(self, bird: Canary) -> ExitCode:
        refused, said = bird.refused(HEEDED_S)
        if refused:
            self.say("broker", f"refuses a certificate of {bird.name} as revoked")
            return ExitCode.OK
        self.say("broker", f"was NOT seen to refuse a certificate of {bird.name}: {said}")
        return ExitCode.FAILED

    def _evict(self, device: str, watch_s: float) -> ExitCode:
        assert self.own is not None
        try:
            with evicted(self.own.file, device) as eviction:
                cleared = eviction.clear_presence(self.operator.topics)
                self.say("connection", "is taken over, if there was one")
                self.say("presence", "is cleared" if cleared else "is not ours to clear")
                if eviction.lost(watch_s):
                    self.say("connection", f"{device} is BACK: it is still let in")
                    return ExitCode.FAILED
        except (MidgeError, OSError) as error:
            self.say("connection", f"may still stand: {error}")
            return _code_of(error)
        self.say("connection", f"{device} did not come back in {watch_s:g} s")
        return ExitCode.OK

    def _have_excluded(self, device: str, reason: str) -> ExitCode:
        try:
            reply = ask(self.operator, new_request(Verb.EXCLUDE, device=device, reason=reason), ASKED_S)
        except MidgeError as error:
            self.say("aggregator", f"was not told: {error}; when it runs: midge exclude {device}")
            return _code_of(error)
        self.say("aggregator", reply.text)
        return ExitCode.OK if reply.ok else ExitCode.FAILED


def _code_of(error: Exception) -> ExitCode:
    if isinstance(error, CredentialsError):
        return ExitCode.REFUSED_CREDENTIALS
    return ExitCode.UNREACHABLE if isinstance(error, UnansweredError) else ExitCode.FAILED
