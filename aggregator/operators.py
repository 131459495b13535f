"""Requests of operators: each carried out once, answered as often as it is asked, and recorded."""

import logging
import secrets
from collections.abc import Callable

from aggregator.coordinator.effects import Effect, Reject
from aggregator.coordinator.events import Event, PauseRun, ResumeRun, StartRun, StopRun
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Run
from aggregator.exclusions import Exclusions
from aggregator.ledger import Ledger
from aggregator.records import RequestAnswered
from aggregator.run_settings import overlay, read_run_settings
from aggregator.settings import AggregatorSettings
from broker.control import Reply, Request, Verb
from broker.wire import encode
from host.errors import ConfigError, DataError, NoRoomError

_EVENTS: dict[Verb, Event] = {Verb.STOP: StopRun(), Verb.PAUSE: PauseRun(), Verb.RESUME: ResumeRun()}
_DONE = {Verb.STOP: "stopped", Verb.PAUSE: "paused", Verb.RESUME: "goes on"}
MAX_TEXT = 300

log = logging.getLogger(__name__)


class Operators:
    """Turns requests into events of the coordinator, and what came of them into replies."""

    def __init__(
        self,
        settings: AggregatorSettings,
        ledger: Ledger,
        handle: Callable[[Event], list[Effect]],
        state: Callable[[], str],
        send: Callable[[str, bytes], None],
        exclusions: Exclusions,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._handle = handle
        self._state = state
        self._send = send
        self._exclusions = exclusions
        self._starting: tuple[str, Request, str] | None = None

    def request(self, user: str, request: Request, *, refuse: str = "") -> None:
        """Carry out a request, or repeat its reply; `start` is answered when its task is built.

        What would change something is answered with `refuse` if that says why the ledger cannot note it.
        """
        if (known := self._ledger.reply(request.id)) is not None:
            self._send(user, known)
        elif request.verb is Verb.RUNS:
            reply = Reply(id=request.id, ok=True, text="", runs=tuple(self._ledger.runs()))
            self._send(user, encode(reply))
        elif refuse:
            self._send(user, encode(Reply(id=request.id, ok=False, text=refuse[:MAX_TEXT])))
        elif request.verb is Verb.START:
            self._start(user, request)
        elif request.verb in (Verb.EXCLUDE, Verb.ADMIT):
            self._judge(user, request)
        else:
            self._command(user, request)

    def prepared(self, run: str, *, ok: bool, text: str) -> None:
        """A run's task is built, or failed: whoever started it waits for this."""
        if self._starting is not None:
            (user, request, before), self._starting = self._starting, None
            self._answer(user, request, before, ok=ok, text=text, run=run)

    def _start(self, user: str, request: Request) -> None:
        if self._starting is not None and self._starting[1].id == request.id:
            return
        before = self._state()
        if (begun := self._ledger.run_of(request.id)) is not None:
            self._start_again(user, request, before, begun)
            return
        task = self._settings.tasks.get(request.task or "")
        if task is None:
            known = ", ".join(self._settings.tasks) or "none"
            text = f"no task {request.task!r} is configured here; there are: {known}"
            self._answer(user, request, before, ok=False, text=text)
            return
        try:
            settings = read_run_settings(overlay(task.settings, request.settings))
        except ConfigError as error:
            self._answer(user, request, before, ok=False, text=str(error))
            return
        assert request.task is not None
        run = f"{request.task[:20].rstrip('-')}-{secrets.token_hex(4)}"
        # Set before the event: a task that fails at once is answered while it is handled.
        earlier, self._starting = self._starting, (user, request, before)
        rejected = _rejection(self._handle(StartRun(run, request.task, settings, request.id)))
        if rejected is not None:
            self._starting = earlier
            self._answer(user, request, before, ok=False, text=rejected)

    def _start_again(self, user: str, request: Request, before: str, run: str) -> None:
        """An earlier process began this run, and was ended before it could say so."""
        if before.startswith(f"{run} {Phase.PREPARING}"):
            self._starting = (user, request, before)
        else:
            self._answer(user, request, before, ok=True, text=f"run {run} was started", run=run)

    def _command(self, user: str, request: Request) -> None:
        before = self._state()
        rejected = _rejection(self._handle(_EVENTS[request.verb]))
        run = before.split()[0]
        text = rejected or f"run {run} {_DONE[request.verb]}"
        self._answer(user, request, before, ok=rejected is None, text=text)
        if request.verb is Verb.STOP and rejected is None:
            self.prepared(run, ok=False, text="stopped before it was prepared")

    def _judge(self, user: str, request: Request) -> None:
        """Exclude a device, or admit it again; doing that twice does no harm."""
        before = self._state()
        if request.device is None:
            self._answer(user, request, before, ok=False, text=f"{request.verb} which device?")
            return
        try:
            if request.verb is Verb.EXCLUDE:
                text = self._exclusions.exclude(request.device, request.reason)
            else:
                text = self._exclusions.admit(request.device)
        except (DataError, NoRoomError) as error:
            self._answer(user, request, before, ok=False, text=str(error))
        else:
            self._answer(user, request, before, ok=True, text=text)

    def _answer(
        self, user: str, request: Request, before: str, *, ok: bool, text: str, run: str | None = None
    ) -> None:
        reply = encode(Reply(id=request.id, ok=ok, text=text[:MAX_TEXT], run=run))
        arguments = {"task": request.task, "settings": dict(request.settings)}
        if request.device is not None:
            arguments |= {"device": request.device, "reason": request.reason}
        record = RequestAnswered(request.id, user, request.verb, arguments, before, self._state(), reply)
        about = {"event": "command", "user": user, "verb": request.verb, "run": run, "device": request.device}
        try:
            self._ledger.commit((record,), None)
        except NoRoomError as error:
            # What was asked is done, but a crash would forget it: do not call it done.
            unnoted = "%s asked for %s: %s, but that could not be noted"
            log.warning(unnoted, user, request.verb, text, extra=about)
            self._send(user, encode(Reply(id=request.id, ok=False, text=f"not noted: {error}"[:MAX_TEXT])))
            return
        log.info("%s asked for %s: %s", user, request.verb, text, extra=about)
        self._send(user, reply)


def state_of(run: Run | None) -> str:
    """The run and its phase, for the record of what an operator changed."""
    return f"{run.run} {'paused' if run.paused else run.phase} round {run.last_round}" if run else "- idle"


def _rejection(effects: list[Effect]) -> str | None:
    return next((effect.reason for effect in effects if isinstance(effect, Reject)), None)
