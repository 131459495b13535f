"""The option by which verbs find the federation's home."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="MIDGE_HOME", metavar="DIR", help="The folder that midge init made.")
]
