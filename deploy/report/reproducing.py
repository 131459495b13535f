"""The commands that train the same again."""

import shlex
from collections.abc import Mapping
from typing import Any

from aggregator.run_settings import RunSettings
from deploy.report.facts import RunFacts
from deploy.report.runfiles import RunFiles

PINNED = ("numpy", "tensorflow", "keras")


def changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not as they are by themselves."""
    known = RunSettings.model_fields
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name not in known or value != known[name].default)
    }


def commands(run: RunFacts, files: RunFiles) -> list[str]:
    """What to type on the aggregator's machine, and then as an operator."""
    versions = files.table("versions")
    midge = f"midge[aggregator]=={versions['midge']}" if "midge" in versions else "midge[aggregator]"
    pins = [f"{name}=={versions[name]}" for name in PINNED if name in versions]
    given = [
        f"--set {shlex.quote(f'{name}={_text(value)}')}" for name, value in changes(run.settings).items()
    ]
    return [
        f"pip install {' '.join(map(shlex.quote, [midge, *pins]))}",
        " ".join(["midge start", shlex.quote(run.task), *given]),
    ]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
