"""The entry point of `midge`: it answers on a base install too."""

import sys

from host.exits import ExitCode

NEEDED = ("typer", "rich", "click")


def main() -> None:
    """Run the command, or say what to install for it."""
    try:
        from deploy.command.app import run  # noqa: PLC0415  needs what a base install lacks
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        print(  # noqa: T201
            f"midge: the operator's command needs {error.name}: pip install 'midge[operator]'",
            file=sys.stderr,
        )
        raise SystemExit(ExitCode.BAD_CONFIG) from None
    run()


if __name__ == "__main__":
    main()
