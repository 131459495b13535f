"""Links, headings and pictures of the pages."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from broker.topics import TREE
from tests.docs.pages import PAGES, ROOT, anchors, links

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))
LONGEST_DECISION = 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_reached_from_the_readme(page: Path) -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        here = waiting.pop()
        found = {
            (here.parent / link.partition("#")[0]).resolve() for link in links(here) if "://" not in link
        }
        found |= {path for folder in found if folder.is_dir() for path in folder.glob("*.md")}
        reached.add(here)
        waiting += [path for path in found - reached if path.suffix == ".md"]
    assert page in reached


@pytest.mark.parametrize("number", range(1, len(DECISIONS) + 1))
def test_decisions_are_numbered_and_short(number: int) -> None:
    page = DECISIONS[number - 1]
    lines = page.read_text().splitlines()
    assert page.name.startswith(f"{number:04}-")
    assert lines[0].startswith(f"# {number}. ")
    assert len(lines) < LONGEST_DECISION


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_the_topics_of_a_picture_are_topics(picture: Path) -> None:
    levels = {level for branch in TREE for level in branch.pattern.split("/")}
    words = [
        word
        for element in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  our own
        if element.get("class") == "topic"
        for word in (element.text or "").split()
    ]
    assert words
    assert set(words) <= levels
