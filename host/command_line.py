"""What the services' commands share: verbs with a settings file, overrides, a log level, and exit codes."""

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from host.errors import ConfigError, DataError, MidgeError
from host.exits import ExitCode
from host.logs import FORMATS, LEVELS, configure_logging, say

if TYPE_CHECKING:
    from pydantic import BaseModel

EPILOG = "exit status:\n" + "\n".join(f"  {code:<4d}{code.help}" for code in ExitCode)

log = logging.getLogger(__name__)
Verb = Callable[[argparse.Namespace], ExitCode]
Declare = Callable[[argparse.ArgumentParser], object]
M = TypeVar("M", bound="BaseModel")


def run_command(
    name: str,
    description: str,
    verbs: Mapping[str, tuple[Verb, str]],
    arguments: Sequence[str] | None,
    own: Mapping[str, Declare] = MappingProxyType({}),
) -> int:
    """Run the verb that the command line names; every error ends as one line and an ExitCode.

    A verb in `own` declares its arguments itself, those of `declare_settings` too if it reads settings.
    """
    given = _parser(name, description, verbs, own).parse_args(arguments)
    # Until the settings have the last word.
    form = given.log_format or os.environ.get("MIDGE_LOG_FORMAT", "text")
    configure_logging(given.log_level, os.environ, form, service=name.removeprefix("midge-"))
    verb: Verb = given.verb
    try:
        return verb(given)
    except (MidgeError, OSError) as error:
        log.debug("where it came from:", exc_info=True)
        say(f"{name}: {error}\n", logging.ERROR)
        return ExitCode.BAD_CONFIG if isinstance(error, ConfigError | DataError) else ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.OK


def read_settings(model: type[M], given: argparse.Namespace) -> M:
    """Settings from the command line, the environment and the file; raises ConfigError."""
    # Loaded when a verb needs it: --help is for machines where the rest may be broken.
    from host.settings import load_settings  # noqa: PLC0415

    overrides = {}
    for pair in given.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: write it as KEY=VALUE")
        overrides[key.strip()] = value
    if given.log_format is not None:
        overrides["log_format"] = given.log_format
    return load_settings(model, given.config, overrides, os.environ)


def _parser(
    name: str, description: str, verbs: Mapping[str, tuple[Verb, str]], own: Mapping[str, Declare]
) -> argparse.ArgumentParser:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(name, description=description, epilog=EPILOG, formatter_class=as_written)
    parser.add_argument("--version", action="version", version=f"midge {version('midge')}")
    commands = parser.add_subparsers(required=True, metavar="VERB")
    for word, (verb, what) in verbs.items():
        command = commands.add_parser(word, help=what)
        own.get(word, declare_settings)(command)
        command.add_argument("--log-level", choices=LEVELS, default="info")
        command.add_argument("--log-format", choices=FORMATS)
        command.set_defaults(verb=verb)
    return parser


def declare_settings(command: argparse.ArgumentParser) -> None:
    """Declare what `read_settings` reads."""
    command.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, such as broker.url=mqtt://pi",
    )
