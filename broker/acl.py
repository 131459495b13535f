"""Mosquitto's access control list, generated from the topic tree."""

import re
from collections.abc import Iterator, Mapping

from broker.discovery import Discovery
from broker.names import ID_PATTERN, RESERVED_IDS
from broker.topics import TREE, Branch, Role, Topics

USER_NAME = "%u"


def acl(topics: Topics, users: Mapping[str, Role], discovery: Discovery | None = None) -> str:
    """Write the list for `users` (user name to role): each may do what the tree says, and nothing else.

    Patterns bind every account. So that they give the other roles nothing, those are denied, topic by topic,
    what the patterns would give to a device of their name. With `discovery`, the federation is described to
    Home Assistant. Raises ValueError for a user name that is no id,
    or a device's name that is reserved, and for an enrolment account, which has a listener of its own.
    """
    _check(users)
    blocks = [
        "\n".join(
            ["# Generated from the topic tree. Devices: %u is the user name.", *_device_patterns(topics)]
        )
    ]
    for user, role in sorted(users.items()):
        if role is not Role.DEVICE:
            lines = [*_role_lines(topics, user, role), *_described("topic", discovery, role)]
            blocks.append("\n".join([f"user {user}", *lines]))
    return "\n\n".join(blocks) + "\n"


def role_acl(topics: Topics, role: Role, discovery: Discovery | None = None) -> str:
    """Write the list for a listener where every account is of this role.

    Devices, operators and enrolment accounts have the names of what they may use.
    """
    own = {Role.DEVICE: "device", Role.OPERATOR: "user", Role.ENROLMENT: "token"}
    fields = {own[role]: USER_NAME} if role in own else {}
    lines = [
        f"pattern {access} {topics.filter(branch, **fields)}"
        for branch in TREE
        if (access := _access(branch, role))
    ]
    lines += _described("pattern", discovery, role)
    return "\n".join(["# Generated from the topic tree. %u is the user name.", *lines]) + "\n"


def _check(users: Mapping[str, Role]) -> None:
    for user, role in users.items():
        if not re.fullmatch(ID_PATTERN[1:-1], user):
            raise ValueError(f"user name {user!r} is not lower-case letters, digits and hyphens, 32 at most")
        if role is Role.DEVICE and user in RESERVED_IDS:
            raise ValueError(f"{user!r} is the name of a role: choose another name for the device")
        if role is Role.ENROLMENT:
            raise ValueError(f"{user!r} is to enrol devices: give it a listener with role_acl()")


def _device_patterns(topics: Topics) -> Iterator[str]:
    for branch in TREE:
        if access := _access(branch, Role.DEVICE):
            yield f"pattern {access} {topics.filter(branch, device=USER_NAME)}"


def _role_lines(topics: Topics, user: str, role: Role) -> Iterator[str]:
    for branch in TREE:
        access = _access(branch, role)
        if access:
            yield f"topic {access} {_filter(topics, branch, user, role)}"
        if _access(branch, Role.DEVICE) and ("{device}" in branch.pattern or not access):
            yield f"topic deny {topics.filter(branch, device=user)}"


def _described(word: str, discovery: Discovery | None, role: Role) -> Iterator[str]:
    """The rights beside the tree."""
    if discovery is None:
        return
    if role is Role.AGGREGATOR:
        yield f"{word} write {discovery.filter}"
        yield f"{word} read {discovery.status}"
    elif role is Role.MONITOR:
        yield f"{word} read {discovery.filter}"


def _filter(topics: Topics, branch: Branch, user: str, role: Role) -> str:
    # An operator speaks under its own name; the aggregator hears and answers all of them.
    return topics.filter(branch, user=user) if role is Role.OPERATOR else topics.filter(branch)


def _access(branch: Branch, role: Role) -> str | None:
    reads, writes = role in branch.readers, role in branch.writers
    if reads and writes:
        return "readwrite"
    return "read" if reads else "write" if writes else None
