import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from host.logs import configure_logging, name_work, say


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line that was written."""
    (line,) = capsys.readouterr().err.splitlines()
    return dict(json.loads(line))


def test_a_message_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {})
    logging.getLogger("x").warning("first\nsecond")
    line = capsys.readouterr().err
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING first \| second\n", line)


def test_the_journal_gets_priorities_and_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {"JOURNAL_STREAM": "8:1"})
    logging.getLogger("x").error("broken")
    logging.getLogger("x").info("fine")
    assert capsys.readouterr().err == "<3>broken\n<6>fine\n"


def test_what_is_below_the_level_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", {})
    logging.getLogger("x").info("hidden")
    assert capsys.readouterr().err == ""


def test_nothing_that_a_terminal_obeys_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {})
    logging.getLogger("x").info("a\tb \x1b[2J\rc \x9b ü")
    assert capsys.readouterr().err.endswith("a b ?[2J?c ? ü\n")


def test_the_journal_gets_the_priority_in_front_of_fields_that_have_no_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", {"JOURNAL_STREAM": "8:1"}, "keyvalue", service="agent", device="pi-1")
    logging.getLogger("x").error("it broke", extra={"event": "broken"})
    assert capsys.readouterr().err == (
        '<3>level=error service=agent device=pi-1 event=broken logger=x message="it broke"\n'
    )


def test_the_work_in_hand_is_named_until_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {}, "json", service="agent")
    name_work(run="r", round=2)
    logging.getLogger("x").info("training")
    assert {"run": "r", "round": 2}.items() <= told(capsys).items()
    name_work(run=None, round=None)
    logging.getLogger("x").info("idle")
    assert not {"run", "round"} & told(capsys).keys()


@pytest.mark.parametrize("level", ["debug", "error"])
def test_what_is_no_record_becomes_one_whatever_the_level(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level, {}, "json", service="agent")
    say("a library says so\n", event="child-output")
    said = told(capsys)
    assert (said["message"], said["event"]) == ("a library says so", "child-output")


def test_what_is_no_record_stays_as_it_is_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {})
    say("midge-agent: it is\nbroken\n", logging.ERROR)
    assert capsys.readouterr().err == "midge-agent: it is\nbroken\n"


def fail(why: str) -> None:
    raise ValueError(why)


def test_an_exception_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {}, "json")
    try:
        fail("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert told(capsys)["error"].endswith("ValueError: two\nlines")


def test_what_python_would_print_on_several_lines_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", {}, "json")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert "ZeroDivisionError" in told(capsys)["error"]
    sys.excepthook(ValueError, ValueError("bad"), None)
    assert told(capsys)["error"] == "ValueError: bad"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert "UserWarning: old" in told(capsys)["message"]
