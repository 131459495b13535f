import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.names import ID_PATTERN
from broker.topics import (
    BLOB_CHUNK,
    FEDERATION,
    FIELD_PATTERNS,
    MONITOR_AGGREGATOR,
    PRESENCE,
    TREE,
    UPDATE_CHUNK,
    Branch,
    Role,
    Topics,
)

TOPICS = Topics("lab")
BRANCHES = st.sampled_from(TREE)


@st.composite
def filled(draw: st.DrawFn) -> tuple[Branch, dict[str, str]]:
    branch = draw(BRANCHES)
    names = re.findall(r"{(\w+)}", branch.pattern)
    return branch, {name: draw(st.from_regex(FIELD_PATTERNS[name], fullmatch=True)) for name in names}


@given(filled())
def test_parse_undoes_topic(case: tuple[Branch, dict[str, str]]) -> None:
    branch, fields = case
    address = TOPICS.parse(TOPICS.topic(branch, **fields))
    assert address is not None
    assert (address.branch, address.fields) == (branch, fields)


@given(filled())
def test_every_topic_has_at_most_eight_levels(case: tuple[Branch, dict[str, str]]) -> None:
    assert TOPICS.topic(case[0], **case[1]).count("/") < 8


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "midge/v1/lab",
        "midge/v1/lab/",
        "midge/v1/lab/unknown",
        "midge/v1/other/federation",
        "other/v1/lab/federation",
        "midge/v2/lab/federation",
        "midge/v1/lab/federation/more",
        "midge/v1/lab/devices/Pi/presence",
        "midge/v1/lab/devices/-pi/presence",
        "midge/v1/lab/devices//presence",
        f"midge/v1/lab/devices/{'p' * 33}/presence",
        "midge/v1/lab/devices/pi/chunks/0123/0",
        "midge/v1/lab/devices/pi/chunks/0123456789abcdef/01",
        "midge/v1/lab/devices/pi/chunks/0123456789abcdef/-1",
        "midge/v1/lab/devices/pi/chunks/0123456789abcdef/10000000",
        "midge/v1/lab/devices/pi/presence\n",
        "x/midge/v1/lab/federation",
    ],
)
def test_a_topic_that_is_not_of_the_tree_is_not_parsed(topic: str) -> None:
    assert TOPICS.parse(topic) is None


def test_a_prefix_of_several_levels_is_the_root() -> None:
    topics = Topics("lab", "site/hall")
    assert topics.topic(PRESENCE, device="pi") == "site/hall/v1/lab/devices/pi/presence"
    assert topics.parse("site/hall/v1/lab/devices/pi/presence") is not None


def test_fields_left_out_of_a_filter_match_anything() -> None:
    assert TOPICS.filter(UPDATE_CHUNK, device="pi") == "midge/v1/lab/devices/pi/chunks/+/+"


def test_a_topic_without_one_of_its_fields_is_refused() -> None:
    with pytest.raises(KeyError):
        TOPICS.topic(BLOB_CHUNK, digest="0" * 64)


def test_no_two_branches_share_a_topic() -> None:
    patterns = [re.sub(r"{\w+}", "{}", branch.pattern) for branch in TREE]
    assert len(set(patterns)) == len(patterns)


def test_what_its_writer_reads_tells_it_of_another_under_its_name() -> None:
    both = [branch for branch in TREE if branch.writer in branch.readers]
    assert both == [FEDERATION, PRESENCE, MONITOR_AGGREGATOR]


def test_what_tools_watch_is_json_and_nothing_else_is() -> None:
    assert all((branch.format == "json") == (Role.MONITOR in branch.readers) for branch in TREE)


def test_ids_are_matched_alike_in_topics_and_messages() -> None:
    assert f"^{FIELD_PATTERNS['device']}$" == ID_PATTERN
