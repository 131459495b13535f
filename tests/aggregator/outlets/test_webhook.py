"""Notices on their way to a real HTTP server."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.check import check
from aggregator.outlets.notice import Notice, NoticeKind
from aggregator.outlets.webhook import QUEUED, Target, Webhook
from aggregator.settings import AggregatorSettings
from broker.happenings import Severity
from broker.settings import BrokerSettings
from host.errors import ConfigError
from tests.aggregator.outlets.receiver import Receiver

FAST = (0.01, 0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def settings(url: str, folder: Path, token: str | None, key: str | None) -> AggregatorSettings:
    return AggregatorSettings(
        folder=folder,
        broker=BrokerSettings(url="mqtt://127.0.0.1:1"),
        webhook_url=url,
        webhook_token_file=folder / token if token else None,
        webhook_key_file=folder / key if key else None,
    )


def notice(text: str = "run r1 finished") -> Notice:
    return Notice(
        id="1",
        federation="lab",
        kind=NoticeKind.RUN_ENDED,
        severity=Severity.INFO,
        text=text,
        at_unix_s=1.0,
        run="r1",
    )


def test_a_notice_arrives_as_json_with_token_and_signature(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    (tmp_path / "key").write_text("s3cret\n")
    hook = Webhook(Target.of(settings(receiver.url, tmp_path, "token", "key")), "0.1")
    hook.send(notice())
    (call,) = receiver.until(1)
    hook.close()
    assert call.path == "/hooks/secret"
    assert (call.json["kind"], call.json["run"], call.json["schema_version"]) == ("run-ended", "r1", 1)
    assert call.headers["Authorization"] == "Bearer open-sesame"
    assert call.headers["Content-Type"] == "application/json"
    expected = hmac.new(b"s3cret", call.body, hashlib.sha256).hexdigest()
    assert call.headers["X-Midge-Signature"] == f"sha256={expected}"


def test_without_secrets_none_is_sent(receiver: Receiver) -> None:
    hook = Webhook(Target(receiver.url), "0.1")
    hook.send(notice())
    (call,) = receiver.until(1)
    hook.close()
    assert not {"Authorization", "X-Midge-Signature"} & call.headers.keys()


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_who_may_take_it_later_is_asked_again(
    receiver: Receiver, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.codes.extend([code, code])
    hook = Webhook(Target(receiver.url), "0.1", FAST)
    hook.send(notice())
    calls = receiver.until(3)
    hook.close()
    assert {call.body for call in calls} == {calls[0].body}, "the same, under the same id"
    assert caplog.text == ""


def test_a_notice_that_is_never_taken_is_one_line_in_the_log_without_the_url(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.codes.extend([500] * 3)
    hook = Webhook(Target(receiver.url), "0.1", FAST)
    hook.send(notice())
    hook.send(notice("another"))
    assert receiver.until(4)[-1].json["text"] == "another"
    hook.close()
    assert [record.getMessage() for record in caplog.records] == [
        "webhook: 127.0.0.1 answered 500; not sent: run r1 finished"
    ]


def test_who_refuses_it_is_not_asked_again(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.codes.append(404)
    hook = Webhook(Target(receiver.url), "0.1", FAST)
    hook.send(notice())
    hook.send(notice("another"))
    assert len(receiver.until(2)) == 2
    hook.close()
    assert "answered 404" in caplog.text


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, code: int, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = Receiver()
    try:
        receiver.codes.append(code)
        receiver.location = elsewhere.url
        hook = Webhook(Target(receiver.url, token="open-sesame"), "0.1", FAST)  # noqa: S106 - a test's
        hook.send(notice())
        receiver.until(1)
        receiver.location = ""
        hook.send(notice("another"))
        receiver.until(2)
        hook.close()
        assert elsewhere.calls == []
    finally:
        elsewhere.close()
    assert f"redirects ({code})" in caplog.text


def test_whoever_sends_does_not_wait_and_the_queue_is_bounded(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.hold.clear()
    hook = Webhook(Target(receiver.url), "0.1", FAST)
    hook.send(notice())
    receiver.until(1)
    for _ in range(QUEUED + 3):
        hook.send(notice("another"))
    assert caplog.text.count("notices wait; not sent: another") == 3
    assert len(receiver.calls) == 1
    receiver.hold.set()
    receiver.until(QUEUED + 1)
    hook.close()


def test_nobody_there_is_told_and_stopping_does_not_wait_for_the_next_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = Webhook(Target("http://127.0.0.1:1/secret"), "0.1", (3600.0,))
    hook.send(notice())
    hook.close()
    assert not hook._thread.is_alive()
    assert "webhook: 127.0.0.1 cannot be reached: Connection refused; not sent: run r1" in caplog.text
    assert "secret" not in caplog.text


def test_what_waits_when_it_is_stopped_is_tried_once(receiver: Receiver) -> None:
    hook = Webhook(Target(receiver.url), "0.1")
    for text in ("one", "two", "three"):
        hook.send(notice(text))
    hook.close()
    assert [call.json["text"] for call in receiver.calls] == ["one", "two", "three"]


@pytest.mark.parametrize("content", ["", "two\nlines", "ünicode", "x" * 5000])
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigError, match=r"key: "):
        Target.of(settings("http://127.0.0.1", tmp_path, None, "key"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Target.of(settings("http://127.0.0.1", tmp_path, "nowhere", None))


def test_a_check_says_whether_the_secrets_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("s3cret")
    check(settings("https://example.org/private", tmp_path, None, "key"))
    assert "ok    webhook: notices go out with a signature" in capsys.readouterr().out
    check(settings("https://example.org/private", tmp_path, "nowhere", None))
    said = capsys.readouterr().out
    assert f"WRONG webhook: {tmp_path}/nowhere: cannot be read" in said
    assert "private" not in said
