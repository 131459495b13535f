"""Whether each role may do what it needs, and nothing else: every topic is tried by every account.

What is published is empty and not retained: the services take no notice. A right to read shows in what comes,
for brokers grant subscriptions that they then deliver nothing for.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.topics import FIELD_PATTERNS, TREE, Branch, Role, Topics
from deploy.foreign.account import Account, Answer
from deploy.foreign.finding import Check, Finding, Verdict
from deploy.foreign.rights import OWN_LEVEL, may_read, may_write

STRANGER = "midge-doctor"
# What may stand in these levels; a stranger's name in all others.
FIELDS = {"digest": "0" * 64, "transfer": "0" * 16, "index": "0", "round": "1"}
ARRIVES_S = 3.0
SETTLES_S = 0.3


@dataclass(frozen=True, slots=True)
class Trial:
    """A topic that somebody writes to; `names` are the levels that hold an account's name."""

    branch: Branch
    topic: str
    names: Mapping[str, str]

    def is_own(self, account: Account) -> bool:
        """Whether the topic is under this account's name, where that matters to its role."""
        level = OWN_LEVEL.get(account.role)
        return level is not None and self.names.get(level) == account.name


def filters(role: Role, name: str, topics: Topics) -> list[str]:
    """What a role asks for, and all else below the root."""
    own = {OWN_LEVEL[role]: name} if role in OWN_LEVEL else {}
    return [*(topics.filter(b, **own) for b in TREE if role in b.readers), f"{topics.root}/#"]


def try_rights(accounts: Sequence[Account], topics: Topics) -> Iterator[Finding]:
    """Have each account write every topic, and see who gets it."""
    trials = list(_trials(accounts, topics))
    heard = {account.role for account in accounts}
    for account in accounts:
        faults = list(_try(account, accounts, trials))
        yield from faults
        if not faults:
            needed = sum(may_write(account.role, t.branch, own=t.is_own(account)) for t in trials)
            others = len(trials) - needed
            text = f"may write what it needs ({needed} of the topics tried), and none of the {others} others"
            yield Finding(account.role, Check.RIGHTS, Verdict.OK, text)
    if unheard := [role for role in (Role.AGGREGATOR, Role.DEVICE) if role not in heard]:
        text = f"not tried by {' and '.join(unheard)}: give the settings of that role too"
        yield Finding("broker", Check.RIGHTS, Verdict.UNKNOWN, text)


def _trials(accounts: Sequence[Account], topics: Topics) -> Iterator[Trial]:
    """Each branch under the names of the accounts, and under that of a stranger."""
    for branch in TREE:
        levels = [level for level in OWN_LEVEL.values() if f"{{{level}}}" in branch.pattern]
        mine = [a.name for a in accounts if OWN_LEVEL.get(a.role) in levels]
        for name in [*mine, STRANGER] if levels else [STRANGER]:
            names = dict.fromkeys(levels, name)
            fields = {level: names.get(level, FIELDS.get(level, STRANGER)) for level in FIELD_PATTERNS}
            yield Trial(branch, topics.topic(branch, **fields), names)


def _try(writer: Account, accounts: Sequence[Account], trials: Sequence[Trial]) -> Iterator[Finding]:
    for account in accounts:
        account.received.clear()
    answers = {trial.topic: writer.publish(trial.topic) for trial in trials}
    _await_arrivals(writer, accounts, trials)
    for trial in trials:
        readers = [a for a in accounts if may_read(a.role, trial.branch, own=trial.is_own(a))]
        getters = [a for a in accounts if _has(a, trial)]
        if may_write(writer.role, trial.branch, own=trial.is_own(writer)):
            yield from _needed(writer, trial, answers[trial.topic], readers, getters)
        else:
            yield from _forbidden(writer, trial, answers[trial.topic], readers, getters)


def _await_arrivals(writer: Account, accounts: Sequence[Account], trials: Sequence[Trial]) -> None:
    """Until all that should come is there, or for long enough; then a while for what should not."""
    rightful = [t for t in trials if may_write(writer.role, t.branch, own=t.is_own(writer))]
    deadline = time.monotonic() + ARRIVES_S
    for account in accounts:
        due = [t for t in rightful if may_read(account.role, t.branch, own=t.is_own(account))]

        def complete(account: Account = account, due: list[Trial] = due) -> bool:
            return all(_has(account, trial) for trial in due)

        account.listen(deadline - time.monotonic(), complete)
    for account in accounts:
        account.listen(SETTLES_S / len(accounts))


def _has(account: Account, trial: Trial) -> bool:
    return any(m.topic == trial.topic and not (m.payload or m.retained) for m in account.received)


def _needed(
    writer: Account, trial: Trial, answer: Answer, readers: Sequence[Account], getters: Sequence[Account]
) -> Iterator[Finding]:
    if not answer.taken:
        text = f"may not write {trial.topic}: {answer.reason}; give it that right"
        yield _wrong(writer, text)
    elif missing := [a for a in readers if a not in getters]:
        # Where nobody gets it, it may as well be the writer whose message was dropped without a word.
        for reader in missing:
            text = f"does not get {trial.topic} from {writer.role}; give it the right to read that"
            yield _wrong(reader, text if getters else f"{text}, or {writer.role} the right to write it")
    for reader in getters:
        # Who writes a topic learns nothing by reading it.
        if reader not in readers and not may_write(reader.role, trial.branch, own=trial.is_own(reader)):
            yield _wrong(reader, f"may read {trial.topic}, which is not for it; take that right away")


def _forbidden(
    writer: Account, trial: Trial, answer: Answer, readers: Sequence[Account], getters: Sequence[Account]
) -> Iterator[Finding]:
    # Some brokers take what they then drop: where a reader is there and got nothing, that is as good.
    if getters or (answer.taken and not readers):
        yield _wrong(writer, f"may write {trial.topic}, which is not for it; take that right away")


def _wrong(account: Account, text: str) -> Finding:
    return Finding(account.role, Check.RIGHTS, Verdict.WRONG, text)
