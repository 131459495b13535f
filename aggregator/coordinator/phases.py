"""The phases of a run, and the one table of transitions from which docs/protocol.md draws its diagram."""

from enum import StrEnum


class Phase(StrEnum):
    """Where the coordinator is."""

    IDLE = "idle"
    PREPARING = "preparing"
    WAITING = "waiting"
    TRAINING = "training"
    AGGREGATING = "aggregating"
    EVALUATING = "evaluating"


class RoundOutcome(StrEnum):
    """How a round ended."""

    COMPLETED = "completed"
    UNEVALUATED = "unevaluated"
    ABANDONED = "abandoned"


class RunOutcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class Decision(StrEnum):
    """What the coordinator decided about a round or one of its devices."""

    LOST = "lost"
    BACK = "back"
    STRAGGLES = "straggles"
    CATCHES_UP = "catches-up"
    GRACE = "grace"
    DEADLINE = "deadline"
    INVITES = "invites"
    BACKS_OFF = "backs-off"
    CARRIES = "carries"
    DROPS = "drops"
    EXCLUDES = "excludes"


TRANSITIONS: dict[tuple[Phase, Phase], str] = {
    (Phase.IDLE, Phase.PREPARING): "an operator starts a run",
    (Phase.PREPARING, Phase.WAITING): "the task's model is built",
    (Phase.PREPARING, Phase.IDLE): "the task fails, or the run is stopped",
    (Phase.WAITING, Phase.TRAINING): "blobs are on the broker and enough devices fit: a cohort is selected",
    (Phase.WAITING, Phase.IDLE): "the run is stopped",
    (
        Phase.TRAINING,
        Phase.AGGREGATING,
    ): "target reached; or with quorum: all who live reported, nobody else is due in time, or the deadline",
    (
        Phase.TRAINING,
        Phase.WAITING,
    ): "the deadline came without quorum: the round is abandoned, the model stays",
    (Phase.TRAINING, Phase.IDLE): "the run is stopped",
    (Phase.AGGREGATING, Phase.EVALUATING): "the new theta is on disk",
    (
        Phase.AGGREGATING,
        Phase.WAITING,
    ): "the strategy fails, or files are damaged: the round is abandoned, the model stays",
    (Phase.AGGREGATING, Phase.IDLE): "the run is stopped",
    (Phase.EVALUATING, Phase.WAITING): "evaluated, or its deadline came: the next round",
    (Phase.EVALUATING, Phase.IDLE): "that was the last round or it reached stop_when, or the run is stopped",
}
