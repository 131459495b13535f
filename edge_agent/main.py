"""The command midge-agent: run the agent, or check what it would run with."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from host.command_line import read_settings, run_command
from host.exits import ExitCode
from host.notify import Notifier


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is an ExitCode."""
    verbs = {
        "run": (_run, "run the agent until it is stopped"),
        "check": (_check, "explain what is wrong, if anything"),
    }
    return run_command("midge-agent", "Trains on this device's data.", verbs, arguments)


def _run(given: argparse.Namespace) -> ExitCode:
    # Imported by the verb: --help is for machines where the rest may be broken.
    from edge_agent.profile import birth  # noqa: PLC0415
    from edge_agent.service import Service  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415
    from edge_agent.store import Store  # noqa: PLC0415

    settings = read_settings(AgentSettings, given)
    store = Store(settings.state_folder)
    try:
        service = Service(settings, store, birth(settings), Notifier(os.environ))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _frame: service.stop(signal.Signals(got).name))
        return service.run()
    finally:
        store.close()


def _check(given: argparse.Namespace) -> ExitCode:
    from edge_agent.check import check  # noqa: PLC0415
    from edge_agent.settings import AgentSettings  # noqa: PLC0415

    return check(read_settings(AgentSettings, given))


if __name__ == "__main__":
    sys.exit(main())
