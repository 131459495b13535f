"""What a fleet's model makes of examples that no device has."""

import json
from pathlib import Path

import numpy as np

from deploy.local.fleet import LocalFleet
from deploy.results.confusion import Matrix


def confusion_of(fleet: LocalFleet, run: str, test: Path) -> Matrix:
    """Compare the run's model with the truth, and draw confusion.png beside it; raises ChildError.

    A process of its own does it, for it has to load TensorFlow.
    """
    folder = fleet.folder.run(run)
    arguments = (str(folder / "model.keras"), str(test), "--json", "-o", str(folder / "confusion.png"))
    job = fleet.processes.job("confusion", "deploy.command.entry", "confusion", *arguments)
    return np.array(json.loads(fleet.wait_for(job))["matrix"], np.int64)
