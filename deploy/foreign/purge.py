"""`midge purge`: leave nothing retained below a federation's root, and look again to be sure."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from broker.topics import TREE, Role, Topics
from deploy.foreign.account import Account
from deploy.foreign.patients import Patient
from deploy.foreign.trying import filters

# What is retained comes at once, and a queue that overflows holds the rest back until the next look.
QUIET_S = 1.0
SLICE_S = 0.2
MAX_PASSES = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was cleared, and what is still there because nobody given may clear it."""

    cleared: frozenset[str]
    left: frozenset[str]


def find_retained(patients: Sequence[Patient]) -> frozenset[str]:
    """Topics below the root on which these accounts are given something retained, as many as come at once.

    Raises NoConnectionError for an account that the broker does not take.
    """
    with _connected(patients) as accounts:
        return frozenset(_retained(accounts))


def purge(patients: Sequence[Patient]) -> Outcome:
    """Clear what is found, until a look finds nothing, or nothing that these accounts may clear."""
    cleared: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()
    for _ in range(MAX_PASSES):
        found = find_retained(patients)
        if found <= stuck:
            break
        cleared, stuck = cleared | found, _clear(patients, found)
    return Outcome(cleared - found, found)


def unseen(patients: Sequence[Patient], topics: Topics) -> list[str]:
    """Kinds of retained topics that none of these roles is meant to read: nothing is known of them."""
    roles = {patient.role for patient in patients}
    return [topics.filter(b) for b in TREE if b.retained and not roles.intersection(b.readers)]


def _clear(patients: Sequence[Patient], topics: frozenset[str]) -> frozenset[str]:
    """Each account tries what those before it were denied; what all of them were."""
    remaining = set(topics)
    with _connected(patients, listening=False) as accounts:
        for account in accounts:
            remaining = account.clear(remaining)
    return frozenset(remaining)


def _retained(accounts: Sequence[Account]) -> set[str]:
    """What comes until it is quiet; contents are let go of at once, for they may be a whole model."""
    found: set[str] = set()
    quiet_s = 0.0
    while quiet_s < QUIET_S:
        quiet_s += SLICE_S
        for account in accounts:
            account.listen(SLICE_S / len(accounts))
            if account.received:
                quiet_s = 0.0
            found |= {message.topic for message in account.received if message.retained and message.payload}
            account.received.clear()
    return found


@contextmanager
def _connected(patients: Sequence[Patient], *, listening: bool = True) -> Iterator[list[Account]]:
    with ExitStack() as connections:
        accounts = []
        for one in patients:
            topics = one.settings.topics
            wanted = filters(one.role, one.name, topics) if listening else [f"{topics.root}/{Role.MONITOR}"]
            accounts.append(connections.enter_context(Account(one.role, one.name, one.settings, wanted)))
        yield accounts
