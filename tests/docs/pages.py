"""The pages as the tests read them: code blocks, headings, links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- (?:not run: (?P<reason>.+?)|(?P<service>service)) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE_NAME = re.compile(r"# ([\w/.-]+\.(?:py|toml))\n")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` says why it is not run, `service` that its command does not end by itself."""

    page: Path
    language: str
    text: str
    reason: str | None
    service: bool

    @property
    def file(self) -> str | None:
        """What file the block is, if its first line says so."""
        named = _FILE_NAME.match(self.text)
        return named[1] if named else None


def blocks(page: Path) -> list[Block]:
    return [
        Block(page, found["language"], found["text"], found["reason"], found["service"] is not None)
        for found in _BLOCK.finditer(page.read_text())
    ]


def all_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def named(block: Block) -> str:
    """What a test of the block is called."""
    return f"{block.page.relative_to(ROOT)} {block.file or block.text.splitlines()[0]}"


def files(page: Path) -> dict[str, Block]:
    """The blocks of a page that name the file they are."""
    return {block.file: block for block in blocks(page) if block.file}


def commands(block: Block) -> list[tuple[str, str]]:
    """The command lines of a console block with what each prints; continued lines are joined."""
    parts = re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]
    split = (part.partition("\n") for part in parts)
    return [(command, output) for command, _, output in split]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("", page.read_text())


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
