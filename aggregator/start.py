"""What comes before serving: room on the disk, and a federation that nobody else serves."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from aggregator.ledger import Ledger
from aggregator.lookout import look
from aggregator.service import Service
from aggregator.settings import AggregatorSettings
from host.errors import StorageError
from host.exits import ExitCode
from host.files import is_no_room
from host.notify import Notifier

RETRY_S = 2.0

log = logging.getLogger(__name__)
Made = TypeVar("Made")


def run(settings: AggregatorSettings, notifier: Notifier, *, take_over: bool) -> ExitCode:
    """Serve until a signal comes, or another aggregator; SIGTERM and SIGINT are ours from now on."""
    stopping = threading.Event()
    serving: list[Service] = []

    def stop(_number: int, _frame: object) -> None:
        stopping.set()
        for service in serving:
            service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # What is waited for below is for people to mend: a service manager must not take it for a failed start.
    notifier.ready()
    ledger = when_there_is_room(lambda: _open_ledger(settings), stopping, notifier)
    if ledger is None:
        return ExitCode.OK
    try:
        found = look(settings.broker, ledger.session(), notifier, stopping, take_over=take_over)
        if found.exit is not None:
            return found.exit

        def make() -> Service:
            number = ledger.next_session(time.time(), found.above)
            service = Service(settings, notifier, ledger, number)
            service.inspect()
            return service

        service = when_there_is_room(make, stopping, notifier)
        if service is None:
            return ExitCode.OK
        serving.append(service)
        if stopping.is_set():
            service.stop()
        return service.run()
    finally:
        ledger.close()


def when_there_is_room(
    attempt: Callable[[], Made], stopping: threading.Event, notifier: Notifier
) -> Made | None:
    """What `attempt` makes, as soon as the disk takes what it writes; None when stopped before.

    To end instead would have the service manager start us again, and again.
    """
    told = False
    while not stopping.is_set():
        try:
            return attempt()
        except (OSError, StorageError) as error:
            if not is_no_room(error):
                raise
            if not told:
                log.error("cannot start: %s; waiting until there is room", error)  # noqa: TRY400 - no bug of ours
            told = True
            notifier.status(f"waiting for room on the disk: {error}")
            notifier.alive()
            stopping.wait(RETRY_S)
    return None


def _open_ledger(settings: AggregatorSettings) -> Ledger:
    settings.folder.mkdir(parents=True, exist_ok=True)
    return Ledger(settings.folder / "ledger.sqlite")
