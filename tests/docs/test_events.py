import re
from pathlib import Path

from broker.happenings import EventKind

PAGE = Path(__file__).parents[2] / "docs/monitor.md"


def test_the_page_tells_when_each_kind_of_event_is_said() -> None:
    section = PAGE.read_text().split("## What happens\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [word for row in rows for word in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(named) == sorted(["kind", *EventKind])
