"""The command midge-aggregator: run the service, check what it would run with, or tell its public key."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from host.command_line import declare_settings, read_settings, run_command
from host.errors import ConfigError
from host.exits import ExitCode
from host.logs import configure_logging
from host.notify import Notifier

if TYPE_CHECKING:
    from aggregator.settings import AggregatorSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is an ExitCode."""
    verbs = {
        "run": (_run, "run the aggregator until it is stopped"),
        "check": (_check, "explain what is wrong with its settings and tasks, if anything"),
        "key": (_key, "print the public key for devices to pin; make it when there is none"),
    }
    about = "Runs rounds of federated learning."
    return run_command("midge-aggregator", about, verbs, arguments, {"run": _declare_run})


def _declare_run(command: argparse.ArgumentParser) -> None:
    declare_settings(command)
    command.add_argument(
        "--take-over",
        action="store_true",
        help="serve although another aggregator does: that one stops; for once, not for a unit file",
    )


def _run(given: argparse.Namespace) -> ExitCode:
    # Imported by the verb: --help is for machines where the rest may be broken.
    from aggregator import start  # noqa: PLC0415
    from aggregator.settings import AggregatorSettings  # noqa: PLC0415

    settings = read_settings(AggregatorSettings, given)
    _require_tasks(settings)
    federation = settings.broker.federation
    configure_logging(
        given.log_level, os.environ, settings.log_format, service="aggregator", federation=federation
    )
    return start.run(settings, Notifier(os.environ), take_over=given.take_over)


def _check(given: argparse.Namespace) -> ExitCode:
    from aggregator.check import check  # noqa: PLC0415
    from aggregator.settings import AggregatorSettings  # noqa: PLC0415

    settings = read_settings(AggregatorSettings, given)
    _require_tasks(settings)
    return check(settings)


def _key(given: argparse.Namespace) -> ExitCode:
    from aggregator.settings import AggregatorSettings  # noqa: PLC0415
    from broker.signing import Signer  # noqa: PLC0415

    signer = Signer(read_settings(AggregatorSettings, given).signing_key)
    sys.stdout.write(f"{signer.public_key}\n")
    return ExitCode.OK


def _require_tasks(settings: "AggregatorSettings") -> None:
    for name, task in settings.tasks.items():
        if not task.file.is_file():
            raise ConfigError(f"tasks.{name}.file: there is no file {task.file}")


if __name__ == "__main__":
    sys.exit(main())
