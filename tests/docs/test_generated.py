"""What the pages say of messages, settings and states is what the code says."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from aggregator.coordinator import phases
from broker import happenings, messages, needs
from docs import generate
from tests.docs.pages import ROOT

PROTOCOL, MONITOR = ROOT / "docs/protocol.md", ROOT / "docs/monitor.md"
EXPLAINED_ELSEWHERE = {"StrEnum", "Word", "Phase", "EventKind"}
WORDS: dict[str, type[StrEnum]] = {
    name: words
    for module in (messages, needs, happenings, phases)
    for name, words in vars(module).items()
    if isinstance(words, type) and issubclass(words, StrEnum) and name not in EXPLAINED_ELSEWHERE
}
# These only hold what others inherit.
BASES = {"Part"}


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_the_generated_parts_are_as_the_code_says(page: Path) -> None:
    text = page.read_text()
    assert generate.filled(text) == text, "run `make docs`"


@pytest.mark.parametrize("name", sorted(generate.MESSAGES.keys() - BASES))
def test_every_message_and_document_stands_on_its_page(
    name: str,
) -> None:
    page = MONITOR if name in generate.WATCHED else PROTOCOL
    assert f"<!-- generated: message {name} -->" in page.read_text()


@pytest.mark.parametrize("name", sorted(generate.SETTINGS))
def test_every_settings_table_stands_in_operations(name: str) -> None:
    assert f"<!-- generated: settings {name} -->" in (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("part", sorted(generate.PARTS))
def test_every_part_that_can_be_generated_stands_on_one_page(part: str) -> None:
    marker = f"<!-- generated: {part} -->"
    assert sum(page.read_text().count(marker) for page in generate.PAGES) == 1


@pytest.mark.parametrize("model", generate.SETTINGS.values(), ids=lambda model: model.__name__)
def test_every_setting_says_what_it_is_for(model: type[BaseModel]) -> None:
    fields = TypeAdapter(model).json_schema()["properties"]
    silent = [name for name, field in fields.items() if not ("description" in field or "const" in field)]
    assert silent == []


@pytest.mark.parametrize("name", sorted(WORDS))
def test_every_word_of_an_enumeration_is_explained(name: str) -> None:
    pages = PROTOCOL.read_text() + MONITOR.read_text()
    table = re.search(rf"<!-- members: {name} -->\n((?:\|.*\n)+)", pages)
    assert table is not None, f"no table of {name}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()[2:]]
    assert [word.strip("`") for word, _ in rows] == [member.value for member in WORDS[name]]
    assert all(meaning for _, meaning in rows)


def test_a_change_in_the_code_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    table: Any = {**phases.TRANSITIONS, (phases.Phase.IDLE, phases.Phase.TRAINING): "by magic"}
    monkeypatch.setattr(phases, "TRANSITIONS", table)
    assert "idle --> training: by magic" in generate.filled(PROTOCOL.read_text())


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(KeyError):
        generate.filled("<!-- generated: weather -->\n<!-- end -->")
