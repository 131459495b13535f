"""A process of the pool that trains: `python -m deploy.simulator.training.trainee`.

It is the agent's own trainer, except that it tells nothing but its answers: thousands of short trainings
would otherwise have little else to do than to talk.
"""

from edge_agent.trainer import Trainer
from host.children import Emit, Json, serve

SIGNS_OF_LIFE = ("progress", "measured")


def main() -> None:
    """Serve until the pool closes our stdin."""
    trainer = Trainer()

    def handle(request: Json, emit: Emit) -> None:
        answers: list[Json] = []
        trainer.handle(
            request, lambda said: None if said["event"] in SIGNS_OF_LIFE else answers.append(dict(said))
        )
        for answer in answers:
            emit(answer)

    serve(handle)


if __name__ == "__main__":
    main()
