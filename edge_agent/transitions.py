"""The states of the agent, and why it goes from one to another: docs/ draws its diagram from this table."""

from collections.abc import Mapping

from broker.messages import AgentState

IDLE, FETCHING, TRAINING = AgentState.IDLE, AgentState.FETCHING, AgentState.TRAINING
UPLOADING, EVALUATING, DISPLACED = AgentState.UPLOADING, AgentState.EVALUATING, AgentState.DISPLACED
WORKING = frozenset({FETCHING, TRAINING, EVALUATING})

TRANSITIONS: Mapping[tuple[AgentState, AgentState], str] = {
    (IDLE, FETCHING): "a round asks for training or evaluation",
    (FETCHING, TRAINING): "program and theta are on disk",
    (FETCHING, EVALUATING): "program and the new theta are on disk",
    (FETCHING, IDLE): "no longer wanted, declined, or put off",
    (TRAINING, UPLOADING): "trained: the update is pending",
    (TRAINING, IDLE): "no longer wanted, or declined",
    (EVALUATING, IDLE): "reported, no longer wanted, declined, or put off",
    (UPLOADING, IDLE): "receipt, or the update's file is lost",
    (IDLE, DISPLACED): "another machine has our id",
    (FETCHING, DISPLACED): "another machine has our id",
    (TRAINING, DISPLACED): "another machine has our id",
    (EVALUATING, DISPLACED): "another machine has our id",
    (UPLOADING, DISPLACED): "another machine has our id",
    (DISPLACED, IDLE): "connected again",
    (DISPLACED, UPLOADING): "connected again, with a pending update",
}
