"""`midge doctor`: connect as each role, and find out whether this broker does what midge needs of it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime

from deploy.foreign.account import Account, NoConnectionError
from deploy.foreign.finding import Check, Finding, Verdict
from deploy.foreign.limits import look_at_clock, look_at_limits, try_chunks
from deploy.foreign.patients import Patient
from deploy.foreign.trying import filters, try_rights


def examine(patients: Sequence[Patient], chunk_bytes: int, now: datetime) -> Iterator[Finding]:
    """Look at one thing after the other; what depends on a thing that is wrong is left out."""
    yield look_at_clock(now)
    with ExitStack() as connections:
        accounts = []
        for one in patients:
            wanted = filters(one.role, one.name, one.settings.topics)
            try:
                account = connections.enter_context(Account(one.role, one.name, one.settings, wanted))
            except NoConnectionError as error:
                yield Finding(one.role, Check.CONNECTION, Verdict.WRONG, str(error))
                continue
            accounts.append(account)
            told = f"connected to {one.settings.url} as {one.name}"
            yield Finding(one.role, Check.CONNECTION, Verdict.OK, told)
        if not accounts:
            return
        declared = list(look_at_limits(accounts[0].limits, chunk_bytes))
        yield from declared
        wrong = {finding.check for finding in declared if finding.verdict is Verdict.WRONG}
        topics = patients[0].settings.topics
        # A broker ends the connection at each message that it cannot carry: nothing else would show.
        if Check.QOS in wrong:
            return
        yield from try_rights(accounts, topics)
        if not wrong:
            yield from try_chunks(accounts, topics, chunk_bytes)
