"""What a runtime is: the part that trains and evaluates, behind one interface."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent.data.examples import Examples
from host.errors import ConfigError

MetricSums = Mapping[str, tuple[float, float]]
Progress = Callable[[float], None]
OptimizerState = Sequence[NDArray[Any]]

# What every runtime keeps to; settings beyond these are for those only that name them in `honours`.
EVERY_RUNTIMES = frozenset(
    {
        "epochs",
        "steps",
        "batch_size",
        "learning_rate",
        "optimizer_state",
        "validation_fraction",
        "seed",
    }
)


@dataclass(frozen=True)
class Trained:
    """What training gives back."""

    theta: Theta
    """float32[P], the weights after training."""
    metrics: MetricSums
    """Training metrics as (sum, weight) by name: the mean is sum / weight."""
    examples: int
    """How many different examples were trained on, at least 1: the update's weight in the fleet's mean."""
    optimizer: OptimizerState = ()
    """What `train` wants to get back in the next round when optimizer state is kept; may be empty."""


class Runtime(Protocol):
    """Trains and evaluates one model; name your class in the entry point group `midge.runtimes`.

    It is created without arguments, in a child process that is niced and may be killed at any moment.
    A runtime MUST NOT reach the network or write files. What it raises declines the round; the last line
    of the message is what the operator reads.

    It MUST keep to the settings in `EVERY_RUNTIMES`. Those of the others that it keeps to stand in its class
    attribute `honours`, a set of names; without one there are none. A round that asks for another one is
    declined before `train` is called.
    """

    def load(self, program: bytes, layout: Layout) -> None:
        """Take the training program; called before the first `train` or `evaluate`, and when it changes.

        MUST raise `WireError` when `program` is not valid or does not have the weights of `layout`.
        MUST NOT run code that stands in `program`.
        """

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        """Train from `theta`, float32[P], which MUST NOT be changed, and give the new weights.

        Given the same arguments it MUST give the same result on the same machine: all chance comes from
        `settings.seed`, and nothing stays from an earlier call. `optimizer` is what the last round's
        `Trained.optimizer` was, or empty: then the optimizer MUST begin afresh. `progress` SHOULD be called
        with the fraction done, 0 to 1, after every batch; it is cheap and may be called often. It tells how
        fast the device is; a device without it counts with all that `train` does. A trainer that tells
        nothing for the device's `trainer_silence_s` is ended, and the round declined.
        """

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        """Metrics of the weights `theta`, float32[P], on `examples`, as (sum, weight) by name.

        Sums over two parts of the examples MUST add up to the sums over both: it is called for a thousand
        or so at a time, in whole batches, so that the agent hears that the trainer lives.
        """


def check_honours(runtime: Runtime, name: str, settings: TrainingSettings) -> None:
    """Raise ConfigError when the round asks for a setting that this runtime would not keep to."""
    known = EVERY_RUNTIMES | frozenset(getattr(runtime, "honours", ()))
    asked = {key for key, value in settings if value != TrainingSettings.model_fields[key].default}
    if unknown := sorted(asked - known):
        raise ConfigError(
            f"runtime {name!r} does not know {', '.join(unknown)}: leave that out of the run's settings, or "
            "teach the runtime and name it in its `honours`"
        )
