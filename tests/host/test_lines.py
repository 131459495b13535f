import json
import logging
import re
import sys
from typing import Any, NoReturn

import pytest

from host.lines import MAX_TEXT, MAX_TRACE, FieldsFormatter, as_json, as_keyvalue

PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]+)(?: |$)')
HOSTILE = 'a\tb "c" \x1b[2J\r\nd \x9b e\\f \u202eevil\u2028 \ud800 level=error ü 🌍'


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "x.y", "levelno": 30, "levelname": "WARNING", "msg": message})
    vars(made).update(extra, created=1.9996, msecs=999.6)
    return made


def line(message: str, **extra: object) -> dict[str, Any]:
    formatter = FieldsFormatter(as_json, {"service": "agent", "device": "pi-1"}, timed=True)
    return dict(json.loads(formatter.format(record(message, **extra))))


def raised() -> object:
    """What logging is given of an exception with a long message."""
    try:
        raise_with("first\nsecond" + "." * 2 * MAX_TRACE + "the end")
    except ValueError:
        return sys.exc_info()


def raise_with(why: str) -> NoReturn:
    raise ValueError(why)


def pairs(text: str) -> dict[str, str]:
    """Read a line of key=value, to its last character."""
    found = list(PAIR.finditer(text))
    assert "".join(pair[0] for pair in found) == text
    return {pair[1]: json.loads(pair[2]) if pair[2].startswith('"') else pair[2] for pair in found}


def test_a_line_says_when_how_bad_whose_and_what() -> None:
    assert line("it is late", event="late", round=3) == {
        "time": "1970-01-01T00:00:01.999Z",
        "level": "warning",
        "service": "agent",
        "device": "pi-1",
        "event": "late",
        "round": 3,
        "logger": "x.y",
        "message": "it is late",
    }


def test_the_work_in_hand_stands_in_a_line_unless_it_is_about_other_work() -> None:
    formatter = FieldsFormatter(as_json, {}, timed=False)
    formatter.in_hand = {"run": "r", "round": 4}
    assert json.loads(formatter.format(record("x")))["round"] == 4
    assert json.loads(formatter.format(record("x", round=3)))["round"] == 3
    assert "run" not in json.loads(formatter.format(record("x", run=None)))


@pytest.mark.parametrize("write", [as_json, as_keyvalue], ids=["json", "keyvalue"])
def test_whatever_stands_in_a_message_it_is_one_line_that_nothing_obeys_and_that_reads_back(
    write: Any,  # noqa: ANN401  either of two functions
) -> None:
    text = write({"level": "info", "message": HOSTILE})
    assert text.isprintable()
    read = json.loads(text) if write is as_json else pairs(text)
    assert read == {"level": "info", "message": HOSTILE}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("word", "word"),
        ("mqtts://pi:8883/x", "mqtts://pi:8883/x"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        (7, "7"),
        (0.5, "0.5"),
        (True, "true"),
    ],
)
def test_a_value_is_quoted_where_it_has_to_be(value: Any, written: str) -> None:  # noqa: ANN401  any field
    assert as_keyvalue({"key": value}) == f"key={written}"


def test_lengths_are_bounded_and_of_an_exception_the_end_stays() -> None:
    said = line("m" * 10 * MAX_TEXT, detail="d" * 10 * MAX_TEXT, exc_info=raised())
    assert len(said["message"]) == len(said["detail"]) == MAX_TEXT + len("...")
    assert len(said["error"]) == MAX_TRACE
    assert said["error"].endswith("the end")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), b"bytes", ("a", 1), {"a": 1}], ids=repr)
def test_what_json_does_not_know_is_text(value: object) -> None:
    assert line("x", odd=value)["odd"] == str(value)
