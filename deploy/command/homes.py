"""The option by which verbs find the federation's home."""

from pathlib import Path
from typing import Annotated

import typer

HOME_VARIABLE = "MIDGE_HOME"

HomeOption = Annotated[
    Path, typer.Option("--home", envvar=HOME_VARIABLE, metavar="DIR", help="The folder that midge init made.")
]
