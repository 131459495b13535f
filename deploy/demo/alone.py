"""What each device reaches without the others: `python -m deploy.demo.alone REQUEST`, a process of its own.

It trains as the federation does, with the same task and runtime, as long as all rounds take together. One
device comes after the other, since to load TensorFlow and to export the task takes longer than to train. The
last line on stdout is each device's confusion matrix on the task's held-out examples, as JSON.
"""

import json
import sys

from aggregator.keras.determinism import be_deterministic
from aggregator.keras.inference import outputs_of
from aggregator.keras.task import KerasTask, load_task
from aggregator.keras.weights import set_theta, theta_of
from broker.layout import Theta
from deploy.demo.solos import Solo, SoloRequest
from deploy.results.confusion import Matrix, confusion
from edge_agent.data.settings import NpzSettings
from edge_agent.data.source import load
from edge_agent.data.split import split
from edge_agent.runtimes.base import Runtime
from edge_agent.runtimes.registry import create
from host.errors import DataError


def train_alone(request: SoloRequest) -> dict[str, Matrix]:
    """Train and save each device's model, and compare it with the truth; raises MidgeError."""
    be_deterministic()
    task = load_task(request.task, request.seed)
    program, first = task.export(request.runtime, request.batch_size), theta_of(task.model)
    runtime = create(request.runtime)
    runtime.load(program.body.encode(), program.layout)
    return {device: _train(task, runtime, first, request.solos[device]) for device in sorted(request.solos)}


def _train(task: KerasTask, runtime: Runtime, first: Theta, solo: Solo) -> Matrix:
    if task.test_data is None:
        raise DataError("the task has no held-out examples to compare with")
    examples = split(load(NpzSettings(path=solo.data), task.contract), solo.settings.validation_fraction)
    trained = runtime.train(first, examples.training, solo.settings, (), lambda _: None)
    set_theta(task.model, trained.theta)
    task.model.save(solo.model)
    x, y = task.test_data
    return confusion(y, outputs_of(task.model, x).argmax(axis=1), len(task.contract.classes or ()))


def main() -> None:
    """Do the request of the command line."""
    matrices = train_alone(SoloRequest.model_validate_json(sys.argv[1]))
    found = {device: matrix.tolist() for device, matrix in matrices.items()}
    print(json.dumps(found))  # noqa: T201  read by the demo


if __name__ == "__main__":
    main()
