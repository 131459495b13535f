"""The command midge-agent: run the agent, check what it would run with, or have it pause."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from host.command_line import declare_settings, read_settings, run_command
from host.exits import ExitCode
from host.logs import configure_logging
from host.notify import Notifier

# As many as the settings of a round may ask for.
MAX_STEPS = 100_000_000

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is an ExitCode."""
    verbs = {
        "run": (_run, "run the agent until it is stopped"),
        "check": (_check, "explain what is wrong, if anything"),
        "key": (_key, "print the public key by which the aggregator knows this device; make it if need be"),
        "pause": (_pause, "have the agent of this device take no part for a while"),
        "resume": (_resume, "end a pause"),
        "status": (_status, "say whether the agent runs, and whether it takes part now"),
        "try": (_try, "train a program on data that is here, without a broker"),
    }
    own = {"try": _declare_try, "pause": _declare_pause}
    return run_command("midge-agent", "Trains on this device's data.", verbs, arguments, own)


def _run(given: argparse.Namespace) -> ExitCode:
    # Imported by the verb: --help is for machines where the rest may be broken.
    from edge_agent.enrolling import enrol  # noqa: PLC0415
    from edge_agent.profile import birth  # noqa: PLC0415
    from edge_agent.service import Service  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415
    from edge_agent.store import Store  # noqa: PLC0415

    settings = read_settings(AgentSettings, given)
    ids = {"federation": settings.broker.federation, "device": settings.device}
    configure_logging(given.log_level, os.environ, settings.log_format, service="agent", **ids)
    store = Store(settings.state_folder)
    notifier, stopping = Notifier(os.environ), threading.Event()
    try:
        _on_signals(lambda _name: stopping.set())
        enrol(settings, notifier, stopping)
        if stopping.is_set():
            return ExitCode.OK
        log.info("looking at the data in %s", settings.data.path)
        service = Service(settings, store, birth(settings), notifier)
        _on_signals(service.stop)
        return service.run()
    finally:
        store.close()


def _on_signals(stop: Callable[[str], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stop(signal.Signals(got).name))


def _check(given: argparse.Namespace) -> ExitCode:
    from edge_agent.check import check  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    return check(read_settings(AgentSettings, given))


def _key(given: argparse.Namespace) -> ExitCode:
    from broker.envelope import DeviceKey  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    sys.stdout.write(f"{DeviceKey(read_settings(AgentSettings, given).device_key).public_key}\n")
    return ExitCode.OK


def _declare_pause(parser: argparse.ArgumentParser) -> None:
    declare_settings(parser)
    parser.add_argument(
        "--for", dest="for_s", type=_duration, metavar="TIME", help="such as 90s, 45m, 2h, 1d"
    )


def _duration(text: str) -> float:
    from edge_agent.pausing import read_duration  # noqa: PLC0415

    try:
        return read_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pause(given: argparse.Namespace) -> ExitCode:
    from edge_agent.owner import pause  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    return pause(read_settings(AgentSettings, given), given.for_s)


def _resume(given: argparse.Namespace) -> ExitCode:
    from edge_agent.owner import resume  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    return resume(read_settings(AgentSettings, given))


def _status(given: argparse.Namespace) -> ExitCode:
    from edge_agent.owner import status  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    return status(read_settings(AgentSettings, given))


def _declare_try(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="a training program for LiteRT")
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help=".npz or .csv, a folder of IDX files, a folder a class of images",
    )
    parser.add_argument("--steps", type=_count, metavar="N", help="how many batches; without it, one epoch")
    parser.add_argument("--theta", type=Path, metavar="FILE", help="raw float32 weights to begin with")
    parser.add_argument("--target", metavar="COLUMN", help="of a .csv; without it, the last one")


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MAX_STEPS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_STEPS}, not {count}")
    return count


def _try(given: argparse.Namespace) -> ExitCode:
    from edge_agent.try_program import Trial, try_program  # noqa: PLC0415

    trial = Trial(given.program, given.data, given.theta, given.steps, given.target)
    return try_program(trial, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
