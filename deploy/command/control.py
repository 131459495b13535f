"""An operator's conversation with the aggregator: one request, repeated until it is answered."""

import secrets
import time
from collections.abc import Callable

from pydantic import ValidationError

from broker.control import Reply, Request, SettingValue, Verb
from broker.events import Acknowledged, Received, Refused, SessionEvent, Unreachable
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import CONTROL_REPLY, CONTROL_REQUEST
from broker.wire import decode, encode
from host.errors import ConfigError, MidgeError
from host.inbox import Inbox

REPEAT_S = 2.0
LOOK_S = 0.1
QUEUED = 100


class UnansweredError(MidgeError):
    """The broker or the aggregator did not answer in time."""


class CredentialsError(MidgeError):
    """The broker does not accept this account, or does not let it do that."""


def ask(
    settings: BrokerSettings,
    request: Request,
    timeout_s: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> Reply:
    """Send a request until its reply comes; the aggregator does it once, whatever is lost on the way.

    `meanwhile` is called some times a second, and may raise to give up. Raises UnansweredError,
    CredentialsError, ConfigError.
    """
    if settings.username is None:
        raise ConfigError(
            "commands are sent under an account's name: give --username and --password-file, "
            "or [broker] username in the settings file"
        )
    return _Conversation(settings, settings.username, request, meanwhile).hold(timeout_s)


def new_request(
    verb: Verb,
    task: str | None = None,
    settings: dict[str, SettingValue] | None = None,
    device: str | None = None,
    reason: str = "",
) -> Request:
    """Make a request with an id of its own; raises ConfigError for a device or a reason that cannot be."""
    fields = {"task": task, "settings": settings or {}, "device": device, "reason": reason}
    try:
        return Request.model_validate({"id": secrets.token_hex(8), "verb": verb, **fields})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        raise ConfigError(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from None


class _Conversation:
    def __init__(
        self, settings: BrokerSettings, user: str, request: Request, meanwhile: Callable[[], None]
    ) -> None:
        topics = settings.topics
        self._settings, self._request, self._meanwhile = settings, request, meanwhile
        self._topic = topics.topic(CONTROL_REQUEST, user=user)
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        self._session = Session(
            settings,
            user,
            lambda event: self._events.put(event, droppable=True) and None,
            will=None,
            subscriptions=[(topics.topic(CONTROL_REPLY, user=user), 1)],
        )
        self._trouble = "the broker did not answer"

    def hold(self, timeout_s: float) -> Reply:
        self._session.start()
        try:
            return self._await_reply(time.monotonic() + timeout_s)
        except TimeoutError:
            raise UnansweredError(
                f"no answer within {timeout_s:g} s from {self._settings.url}: {self._trouble}"
            ) from None
        finally:
            self._session.stop()

    def _await_reply(self, deadline: float) -> Reply:
        repeat = 0.0
        while (now := time.monotonic()) < deadline:
            if self._session.connected and now >= repeat:
                self._session.publish(self._topic, encode(self._request))
                repeat = now + REPEAT_S
            self._meanwhile()
            event = self._events.get(LOOK_S)
            if event is not None and (reply := self._reply_in(event)) is not None:
                return reply
        raise TimeoutError

    def _reply_in(self, event: SessionEvent) -> Reply | None:
        match event:
            case Received(payload=payload):
                reply = decode(Reply, payload)
                return reply if reply.id == self._request.id else None
            case Refused(reason=reason):
                raise CredentialsError(
                    f"{self._settings.url} refused account {self._settings.username!r}: {reason}"
                )
            case Acknowledged(ok=False, reason=reason):
                raise CredentialsError(
                    f"account {self._settings.username!r} may not write {self._topic}: {reason}"
                )
            case Acknowledged():
                self._trouble = (
                    f"no aggregator of federation {self._settings.federation!r} replies; "
                    "see that midge-aggregator runs, and --federation and --prefix"
                )
            case Unreachable(reason=reason):
                self._trouble = reason
            case _:
                pass
        return None
