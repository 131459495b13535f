"""What a device reaches without the others: `python -m deploy.demo.alone REQUEST`, a process of its own.

It trains as the federation does, with the same task and runtime, as long as all rounds take together.
The last line on stdout is the confusion matrix on the task's held-out examples, as JSON.
"""

import json
import sys

from aggregator.keras.determinism import be_deterministic
from aggregator.keras.inference import outputs_of
from aggregator.keras.task import load_task
from aggregator.keras.weights import set_theta, theta_of
from deploy.demo.solos import SoloRequest
from deploy.results.confusion import Matrix, confusion
from edge_agent.data.settings import NpzSettings
from edge_agent.data.source import load
from edge_agent.data.split import split
from edge_agent.runtimes.registry import create
from host.errors import DataError


def train_alone(request: SoloRequest) -> Matrix:
    """Train, save the model as `request.model`, and compare it with the truth; raises MidgeError."""
    be_deterministic()
    task = load_task(request.task, request.seed)
    if task.test_data is None:
        raise DataError(f"{request.task}: the task has no held-out examples to compare with")
    program = task.export(request.runtime, request.settings.batch_size)
    runtime = create(request.runtime)
    runtime.load(program.body.encode(), program.layout)
    examples = split(
        load(NpzSettings(path=request.data), task.contract), request.settings.validation_fraction
    )
    trained = runtime.train(theta_of(task.model), examples.training, request.settings, (), lambda _: None)
    set_theta(task.model, trained.theta)
    task.model.save(request.model)
    x, y = task.test_data
    return confusion(y, outputs_of(task.model, x).argmax(axis=1), len(task.contract.classes or ()))


def main() -> None:
    """Do the request of the command line."""
    matrix = train_alone(SoloRequest.model_validate_json(sys.argv[1]))
    print(json.dumps({"matrix": matrix.tolist()}))  # noqa: T201  read by the demo


if __name__ == "__main__":
    main()
