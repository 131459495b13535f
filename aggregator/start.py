"""What comes before serving: room on the disk, and a federation that nobody else serves."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from aggregator.kept import Kept
from aggregator.ledger import Ledger
from aggregator.lookout import look
from aggregator.service import Service
from aggregator.settings import AggregatorSettings
from broker.sealing import SealingKey
from broker.signing import Signer
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
    signer = when_there_is_room(lambda: _find_signer(settings), stopping, notifier)
    if signer is None:
        return ExitCode.OK
    ledger = when_there_is_room(lambda: Ledger(settings.folder / "ledger.sqlite"), stopping, notifier)
    if ledger is None:
        return ExitCode.OK
    try:
        sealing = when_there_is_room(lambda: _find_sealing_key(settings), stopping, notifier)
        return _serve(
            Kept(settings, ledger, signer, sealing), notifier, stopping, serving, take_over=take_over
        )
    finally:
        ledger.close()


def _serve(
    kept: Kept,
    notifier: Notifier,
    stopping: threading.Event,
    serving: list[Service],
    *,
    take_over: bool,
) -> ExitCode:
    log.info("announcements are signed; devices pin aggregator_key = %s", kept.signer.public_key)
    if kept.settings.seals:
        log.info("what devices tell of their data is sealed: whoever reads the broker does not see it")
    # What cannot be used is told before anything is waited for.
    if (run := kept.coordinator(0.0).run) is not None:
        about = {"event": "run-goes-on", "run": run.run, "round": run.last_round}
        log.info("run %s goes on in phase %s, round %d", run.run, run.phase, run.last_round, extra=about)
    found = look(kept.settings.broker, kept.ledger.session(), notifier, stopping, take_over=take_over)
    if found.exit is not None:
        return found.exit

    def make() -> Service:
        number = kept.ledger.next_session(time.time(), found.above)
        service = Service(kept, notifier, number)
        service.inspect()
        return service

    service = when_there_is_room(make, stopping, notifier)
    if service is None:
        return ExitCode.OK
    serving.append(service)
    if stopping.is_set():
        service.stop()
    code = service.run()
    if stopping.is_set():
        log.info("stopped, as a signal asked for")
    return code


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


def _find_sealing_key(settings: AggregatorSettings) -> SealingKey | None:
    """What was sealed before that was turned off is still to be opened."""
    path = settings.sealing_key
    return SealingKey(path) if settings.seals or path.exists() else None


def _find_signer(settings: AggregatorSettings) -> Signer:
    settings.folder.mkdir(parents=True, exist_ok=True)
    return Signer(settings.signing_key)
