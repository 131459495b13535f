"""What the agent must still know after a power cut."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from broker.messages import Offer, Report, Speeds
from broker.names import PublicKey, RoundNumber, RunId


class RoundKey(NamedTuple):
    """Which round of which run."""

    run: RunId
    round: RoundNumber


class Snapshot(BaseModel):
    """The part of the lifecycle that is written to disk before anything is said about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: int = Field(default=0, ge=0, description="the highest aggregator session that announced a round")
    sequence: int = Field(default=0, ge=0, description="no older announcement of that session is obeyed")
    trained: RoundKey | None = Field(default=None, description="the last round whose training is settled")
    evaluated: RoundKey | None = Field(default=None, description="the last round whose evaluation is settled")
    report: Report | None = Field(default=None, description="of that evaluation: it may not have arrived")
    speeds: Speeds = Field(
        default_factory=dict, description="examples a second by the program's digest; the newest are last"
    )
    sealing: PublicKey | None = Field(
        default=None, description="the aggregator's key as it was last announced; None: nothing is sealed"
    )
    pending: Offer | None = Field(default=None, description="the update that awaits its final answer")
