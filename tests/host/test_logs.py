import logging
import re
from collections.abc import Iterator

import pytest

from host.logs import configure_logging


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


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
