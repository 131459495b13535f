"""Who may do what, topic by topic, from the topic tree: for any broker, whatever its access lists are."""

from collections.abc import Iterator
from typing import NamedTuple

from broker.discovery import Discovery
from broker.topics import TREE, Branch, Role, Topics

# Roles that speak and hear under a name of their own, and the level of a topic that holds it.
OWN_LEVEL = {Role.DEVICE: "device", Role.OPERATOR: "user", Role.ENROLMENT: "token"}


class Right(NamedTuple):
    """What a role does with one kind of topic."""

    role: Role
    topic: str
    reads: bool
    writes: bool
    qos: int
    retained: bool


def rights(topics: Topics, discovery: Discovery | None = None) -> Iterator[Right]:
    """Every right that a role needs; `<device>`, `<user>` and `<token>` stand for the account's own name."""
    for role in Role:
        for branch in TREE:
            reads, writes = role in branch.readers, role in branch.writers
            if reads or writes:
                own = {level: f"<{level}>" for level in (OWN_LEVEL.get(role),) if level}
                yield Right(role, topics.filter(branch, **own), reads, writes, branch.qos, branch.retained)
        if discovery is not None and role is Role.AGGREGATOR:
            yield Right(role, discovery.filter, reads=False, writes=True, qos=1, retained=True)
            yield Right(role, discovery.status, reads=True, writes=False, qos=1, retained=False)
        elif discovery is not None and role is Role.MONITOR:
            yield Right(role, discovery.filter, reads=True, writes=False, qos=1, retained=True)


def may_write(role: Role, branch: Branch, *, own: bool) -> bool:
    """Whether a role may write a topic of this branch, under its own name or another."""
    return role in branch.writers and (own or not _is_personal(role, branch))


def may_read(role: Role, branch: Branch, *, own: bool) -> bool:
    """Whether a role may read a topic of this branch, under its own name or another."""
    return role in branch.readers and (own or not _is_personal(role, branch))


def _is_personal(role: Role, branch: Branch) -> bool:
    level = OWN_LEVEL.get(role)
    return level is not None and f"{{{level}}}" in branch.pattern
