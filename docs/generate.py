# ruff: noqa: INP001 - docs/ is no package
"""Fill the pages' generated parts from the code: `make docs`, or `python -m docs.generate`.

Schemas of what stands under `monitor/` are written to docs/schema.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a word of PARTS and, for some, an
argument. tests/docs fails when a page and the code differ.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aggregator.coordinator import fleet, liveness, phases
from aggregator.outlets.notice import Notice
from aggregator.post import MAX_BEAT_S, MIN_BEAT_S
from aggregator.run_settings import RunSettings
from aggregator.settings import AggregatorSettings, TaskSettings
from aggregator.watch import board, pages, stream
from broker import (
    acl,
    contract,
    control,
    enrolment,
    envelope,
    happenings,
    layout,
    messages,
    monitor,
    program,
    signing,
    topics,
    trust,
    update,
    wire,
)
from broker.settings import BrokerSettings
from deploy.home.federation import FederationSettings, Ports
from deploy.registrar.settings import RegistrarSettings
from docs import schemas
from docs.tables import fields_table, number, table
from edge_agent import backoff, transitions, uploads
from edge_agent.data import settings as data
from edge_agent.settings import AgentSettings, EnrolmentSettings
from host.exits import ExitCode

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PART = re.compile(r"(<!-- generated: (\w+)(?: ([\w-]+))? -->\n).*?(<!-- end -->)", re.DOTALL)

MESSAGES = {
    name: model
    for module in (
        messages,
        control,
        signing,
        envelope,
        monitor,
        happenings,
        contract,
        layout,
        enrolment,
        trust,
    )
    for name, model in vars(module).items()
    if isinstance(model, type) and model.__module__ == module.__name__ and hasattr(model, "model_fields")
} | {"Program": program.Program, "Header": update.Header}
# What stands on docs/monitor.md; all others on docs/protocol.md.
WATCHED = {
    name for name, model in MESSAGES.items() if model.__module__ in {monitor.__name__, happenings.__name__}
}
SETTINGS = {
    model.__name__: model
    for model in (
        AggregatorSettings,
        TaskSettings,
        RunSettings,
        AgentSettings,
        EnrolmentSettings,
        BrokerSettings,
        FederationSettings,
        Ports,
        RegistrarSettings,
    )
} | {
    name: model for name, model in vars(data).items() if name.endswith("Settings") and isinstance(model, type)
}
_EVERY = f"every {pages.RENEWED_EVERY_S:g} s"
_DEVICES = pages.DEVICES_PER_S * pages.RENEWED_EVERY_S
RENEWED = {
    topics.MONITOR_AGGREGATOR: f"every `heartbeat_s`, {MIN_BEAT_S:g} to {MAX_BEAT_S:g} s",
    topics.MONITOR_FEDERATION: _EVERY,
    topics.MONITOR_INCIDENTS: _EVERY,
    topics.MONITOR_EVENTS: "never: each is said once, and not retained",
    topics.MONITOR_RECENT: f"not: said {pages.RECENT_EVERY_S:g} s after the last at the soonest",
    topics.MONITOR_RUN: f"{_EVERY}; once it has ended, not",
    topics.MONITOR_ROUND: f"{_EVERY}; once it is closed, not",
    topics.MONITOR_HISTORY: "not: said when a round closes",
    topics.MONITOR_CONFUSION: "not: said when a round closes",
    topics.MONITOR_DEVICE: f"{_EVERY} for each {_DEVICES:g} devices, or part",
}
_BYTES = board.BYTES_AT_ONCE, board.BYTES_PER_S
RATES: dict[str, tuple[float | None, float]] = {
    "messages": (board.MESSAGES_AT_ONCE, board.MESSAGES_PER_S),
    f"bytes of documents up to {board.LARGE_BYTES:,} bytes, and of events": (
        board.BYTES_AT_ONCE,
        board.BYTES_PER_S,
    ),
    f"bytes of documents over {board.LARGE_BYTES:,} bytes": (board.BYTES_AT_ONCE, board.BYTES_PER_S),
    "bytes of the same document": (None, board.DOCUMENT_BYTES_PER_S),
    "events": (stream.EVENTS_AT_ONCE, stream.EVENTS_PER_S),
}
LIMITS = {
    "a message": (wire.MAX_MESSAGE_BYTES, "bytes"),
    "a list in a message": (wire.MAX_ITEMS, "items"),
    "a map in a message": (wire.MAX_KEYS, "keys"),
    "a chunk": (messages.MAX_CHUNK_BYTES, "bytes"),
    "a blob or an update": (messages.MAX_UPDATE_BYTES, "bytes"),
    "a training program": (messages.MAX_PROGRAM_BYTES, "bytes"),
    "the header of an update": (update.MAX_HEADER_BYTES, "bytes"),
    "chunks in a grant": (messages.MAX_GRANTED_CHUNKS, "chunks"),
    "granted chunks on their way from one device": (uploads.MAX_IN_FLIGHT, "chunks"),
    "devices that an aggregator knows": (fleet.MAX_DEVICES, "devices"),
    "programs whose speed a device remembers": (messages.MAX_SPEEDS, "programs"),
    "silence that makes a device lost, before its rhythm is learnt": (liveness.USUAL, "heartbeats"),
    "silence that makes a device lost, by its rhythm": (liveness.LONGEST, "heartbeats"),
    "a certificate request": (enrolment.MAX_REQUEST_BYTES, "bytes"),
    "a certificate with those behind it": (enrolment.MAX_CHAIN_BYTES, "bytes"),
    "pause between two offers": (backoff.LONGEST_S, "s"),
}


def filled(page: str) -> str:
    """The page with its generated parts as the code says now; raises KeyError for a part that is unknown."""
    return PART.sub(lambda part: f"{part[1]}\n{_content(part[2], part[3])}\n\n{part[4]}", page)


def _content(part: str, argument: str | None) -> str:
    return PARTS[part]() if argument is None else PARTS_OF[part](argument)


def topic_tree() -> str:
    """Every topic, who writes and who reads it."""
    rows = [
        (
            f"`{branch.pattern}`",
            branch.writer,
            ", ".join(branch.readers),
            _linked(branch.message),
            branch.format,
            str(branch.qos),
            "yes" if branch.retained else "",
            branch.what,
        )
        for branch in topics.TREE
    ]
    return table(("topic", "from", "to", "payload", "as", "QoS", "retained", "what"), rows)


def watched() -> str:
    """What is said under `monitor/`, its schema, and how often it is renewed."""
    rows = [
        (
            f"`{branch.pattern}`",
            f"[{branch.message}](#{branch.message.lower()})",
            f"[schema](schema/{schemas.file_name(schemas.MODELS[branch])})",
            RENEWED[branch],
            branch.what,
        )
        for branch in topics.TREE
        if branch in schemas.MODELS
    ]
    return table(("topic", "document", "", "renewed", "what"), rows)


def rates() -> str:
    """How much is said under `monitor/`."""
    rows = [
        (name, "" if burst is None else number(burst), number(rate)) for name, (burst, rate) in RATES.items()
    ]
    return table(("what", "at once", "then a second"), rows)


def topic_levels() -> str:
    """What may stand in a variable level of a topic."""
    return table(("level", "pattern"), [(f"`{{{k}}}`", f"`{v}`") for k, v in topics.FIELD_PATTERNS.items()])


def limits() -> str:
    """Bounds that the code holds."""
    return table(("limit", "at most"), [(k, f"{number(v)} {unit}") for k, (v, unit) in LIMITS.items()])


def exit_codes() -> str:
    """Every exit status with its line of help."""
    rows = [(str(code.value), f"`{code.name}`", code.help) for code in sorted(ExitCode)]
    return table(("status", "name", "meaning"), rows)


def rights() -> str:
    """What an account of each role needs, for any broker."""
    rows = [
        (role, access, ", ".join(f"`{_filter(branch, role)}`" for branch in found))
        for role in topics.Role
        for access, found in _accesses(role)
        if found
    ]
    return table(("role", "may", f"below `{topics.Topics('<federation>').root}/`"), rows)


def access_list() -> str:
    """Mosquitto's file for one account a role, and any number of devices."""
    without = (topics.Role.DEVICE, topics.Role.ENROLMENT)
    users = {role.value: role for role in topics.Role if role not in without}
    return f"```text\n{acl.acl(topics.Topics('default'), users)}```"


def refusals() -> str:
    """Why the registrar gives no certificate."""
    return table(
        ("reason", "meaning"), [(f"`{reason}`", what) for reason, what in enrolment.REFUSALS.items()]
    )


def notice() -> str:
    """What a webhook is told."""
    # Its kinds stand above it, the document on a page of its own.
    return re.sub(r"\[(\w+)\]\(#\w+\)", r"`\1`", fields_table(Notice, "field"))


def aggregator_states() -> str:
    """The coordinator's phases."""
    return _diagram(phases.TRANSITIONS)


def agent_states() -> str:
    """The agent's states."""
    return _diagram(transitions.TRANSITIONS)


def message(name: str) -> str:
    """A message's or document's own fields; those that all have stand once."""
    model = MESSAGES[name]
    common = [base for base in (messages.Message, monitor.Document) if base in model.__mro__[1:]]
    return fields_table(model, "field", *common)


def _accesses(role: topics.Role) -> Iterator[tuple[str, list[topics.Branch]]]:
    yield "publish", [branch for branch in topics.TREE if role in branch.writers]
    yield "subscribe", [branch for branch in topics.TREE if role in branch.readers]


def _filter(branch: topics.Branch, role: topics.Role) -> str:
    own = {topics.Role.DEVICE: {"device": "<own id>"}, topics.Role.OPERATOR: {"user": "<own name>"}}
    own[topics.Role.ENROLMENT] = {"token": "<own name>"}
    return branch.wildcard(**own.get(role, {}))


def _linked(words: str) -> str:
    """Link the models among the words to their sections, as from docs/protocol.md."""
    return re.sub(
        r"[A-Z]\w+",
        lambda word: f"[{word[0]}]({'monitor.md' if word[0] in WATCHED else ''}#{word[0].lower()})",
        words,
    )


def _diagram(table_of: Mapping[tuple[Any, Any], str]) -> str:
    """A Mermaid state diagram: https://mermaid.js.org/syntax/stateDiagram.html."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> idle"]
    for (source, target), why in table_of.items():
        # A colon or a semicolon would end the label.
        label = why.replace(":", ",").replace(";", ",")
        lines.append(f"    {source} --> {target}: {label}")
    return "\n".join([*lines, "```"])


PARTS: Mapping[str, Callable[[], str]] = {
    "topics": topic_tree,
    "levels": topic_levels,
    "watched": watched,
    "rates": rates,
    "limits": limits,
    "exits": exit_codes,
    "rights": rights,
    "acl": access_list,
    "aggregator": aggregator_states,
    "agent": agent_states,
    "refusals": refusals,
    "notice": notice,
}
PARTS_OF: Mapping[str, Callable[[str], str]] = {
    "message": message,
    "settings": lambda name: fields_table(SETTINGS[name], "setting"),
}


def main() -> None:
    """Write the pages and schemas that changed, and name them."""
    schemas.FOLDER.mkdir(exist_ok=True)
    for path, text in (
        {page: filled(page.read_text(encoding="utf-8")) for page in PAGES} | schemas.written()
    ).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
