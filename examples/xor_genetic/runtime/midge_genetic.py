"""A runtime without gradients: the weights of a small network are bred by PyGAD's genetic algorithm.

https://pygad.readthedocs.io
"""

import math

import numpy as np
import pygad
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained
from host.errors import WireError

Individuals = NDArray[np.float64]
"""[individuals, P]"""

PARENTS = 4
BEST_KEPT = 2
MUTATED = 0.25


class Breeding(BaseModel):
    """The program: a network of one hidden layer, and how it is bred."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: int = Field(ge=1, le=1000)
    hidden: int = Field(ge=1, le=1000)
    classes: int = Field(ge=2, le=1000)
    population: int = Field(default=20, ge=PARENTS, le=1000)
    spread: float = Field(default=0.3, gt=0, description="of first individuals and of mutations")
    pull: float = Field(default=0.1, ge=0, description="what squared distance from the round's theta costs")

    @property
    def layout(self) -> Layout:
        """The shapes of the network's weights."""
        return Layout(
            trainable=(
                (self.inputs, self.hidden),
                (self.hidden,),
                (self.hidden, self.classes),
                (self.classes,),
            )
        )


class Genetic:
    """An epoch, or a step, is a generation; an individual is a theta.

    Its fitness is the mean log-likelihood of the device's examples, less `pull` for what it leaves behind:
    the round's theta holds what other devices know, so the nearest of all good individuals is the best.
    """

    def load(self, program: bytes, layout: Layout) -> None:
        """Read a `Breeding`; raises WireError."""
        try:
            breeding = Breeding.model_validate_json(program)
        except ValidationError as error:
            raise WireError(f"no program for the runtime genetic: {error}") from None
        if breeding.layout != layout:
            raise WireError("the program has other weights than the layout says")
        self._breeding, self._layout = breeding, layout

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        """Breed from individuals around `theta`, which is one of them; nothing is kept for the next round."""
        del optimizer
        generations = settings.epochs or settings.steps or 1
        seed, spread = settings.seed % (1 << 32), self._breeding.spread
        chance = np.random.default_rng(seed)
        first = theta + chance.normal(0, spread, (self._breeding.population, len(theta)))
        first[0] = theta

        def fitness(_: pygad.GA, individuals: Individuals, __: object) -> NDArray[np.float64]:
            left = np.sum((individuals - theta) ** 2, axis=1)
            fit = self._likelihoods(individuals, examples).mean(axis=1)
            return np.asarray(fit - self._breeding.pull * left)

        def mutate(offspring: Individuals, _: pygad.GA) -> Individuals:
            changed = chance.random(offspring.shape) < MUTATED
            return offspring + changed * chance.normal(0, spread, offspring.shape)

        algorithm = pygad.GA(
            num_generations=generations,
            initial_population=first,
            fitness_func=fitness,
            fitness_batch_size=len(first),
            num_parents_mating=PARENTS,
            keep_elitism=BEST_KEPT,
            mutation_type=mutate,
            random_seed=seed,
            on_generation=lambda ga: progress(ga.generations_completed / generations),
            suppress_warnings=True,
        )
        algorithm.run()
        best = np.asarray(algorithm.best_solution()[0], np.float32)
        return Trained(best, self.evaluate(best, examples), len(examples.x))

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        """Loss, the negative log-likelihood, and accuracy."""
        individual = theta[np.newaxis].astype(np.float64)
        right = self._scores(individual, examples)[0].argmax(axis=1) == examples.y
        loss, count = -float(self._likelihoods(individual, examples).sum()), float(len(examples.y))
        return {"loss": (loss, count), "accuracy": (float(right.sum()), count)}

    def _likelihoods(self, individuals: Individuals, examples: Examples) -> NDArray[np.float64]:
        """Logarithms, float64[individuals, examples]."""
        scores = self._scores(individuals, examples)
        scores -= scores.max(axis=2, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
        return np.asarray(logs[:, np.arange(len(examples.y)), examples.y])

    def _scores(self, individuals: Individuals, examples: Examples) -> NDArray[np.float64]:
        """Outputs before the softmax, float64[individuals, examples, classes]."""
        ends = np.cumsum([math.prod(shape) for shape in self._layout.trainable])[:-1]
        inner, inner_bias, outer, outer_bias = (
            part.reshape(-1, *shape)
            for part, shape in zip(np.split(individuals, ends, axis=1), self._layout.trainable, strict=True)
        )
        hidden = np.maximum(examples.x @ inner + inner_bias[:, np.newaxis], 0)
        return np.asarray(hidden @ outer + outer_bias[:, np.newaxis])
