"""When a device's update is due: from the progress and the byte counters in its heartbeats.

A round's work is a download, a training and an upload. The rate of each is measured over the whole of it, so
that coarse steps do not mislead, and remembered for the rounds to come. What was never measured counts as
nothing: the answer is the least that it takes, as far as is known.
"""

from dataclasses import dataclass

from broker.messages import AgentState, Heartbeat

STAGES = (AgentState.FETCHING, AgentState.TRAINING, AgentState.UPLOADING)
# One heartbeat after a stage's first may come at once, and its rate be anything.
ENOUGH_BEATS = 2
# The first steps of a training take longer than those to come: until it is so far, it is not judged by them,
# unless it takes that many heartbeats to get there.
WARM_PROGRESS = 0.01
COLD_BEATS = 10


@dataclass(frozen=True, slots=True)
class Work:
    """What a round asks of a device; `training_s` by the speed that it measured before, where it did."""

    run: str
    round: int
    download_bytes: int
    upload_bytes: int
    training_s: float | None


@dataclass(slots=True)
class _Stage:
    """A stretch of heartbeats in one state; amounts in bytes, or as a fraction of the training."""

    state: AgentState
    whole: bool
    begun_at: float
    begun: float
    at: float
    reached: float
    beats: int = 0

    def rate(self) -> float | None:
        """How much a second so far; None before that can be told."""
        gained = self.reached - self.begun
        cold = self.state is AgentState.TRAINING and gained < WARM_PROGRESS
        enough = COLD_BEATS if cold else ENOUGH_BEATS
        return _rate(gained, self.at - self.begun_at) if self.beats >= enough else None


class Pace:
    """How fast one device gets on; times in seconds of the coordinator's clock."""

    def __init__(self) -> None:
        self._key: tuple[str | None, int | None] = (None, None)
        self._stage: _Stage | None = None
        self._rates: dict[AgentState, float] = {}

    def heard(self, beat: Heartbeat, now: float) -> None:
        """Take the progress of one more heartbeat."""
        key, stage, amount = (beat.run, beat.round), self._stage, _amount(beat.state, beat)
        if stage is not None and key == self._key and beat.state is stage.state and amount >= stage.reached:
            stage.at, stage.reached, stage.beats = now, amount, stage.beats + 1
            return
        if stage is not None:
            self._remember(stage, beat, now)
        # What a device did of a stage before we heard of it, we do not know.
        whole = stage is not None and (key, beat.state) != (self._key, stage.state)
        self._key, self._stage = key, _Stage(beat.state, whole, now, amount, now, amount)

    def interrupted(self) -> None:
        """We were deaf: what began and ended meanwhile is unknown."""
        self._stage = None

    def seconds_left(self, work: Work, now: float) -> float | None:
        """How long the update is still to take; None when nothing is known of it."""
        stage = self._stage
        if stage is None or stage.state not in STAGES or self._key != (work.run, work.round):
            return None
        following = STAGES[STAGES.index(stage.state) + 1 :]
        parts = [self._rest(stage, work), *(self._all_of(state, work) for state in following)]
        known = [seconds for seconds in parts if seconds is not None]
        return max(0.0, sum(known) - (now - stage.at)) if known else None

    def _rest(self, stage: _Stage, work: Work) -> float | None:
        rate = stage.rate() or self._rate_of(stage.state, work)
        if stage.state is AgentState.TRAINING:
            left = 1.0 - stage.reached
        else:
            left = max(0.0, _whole(stage.state, work) - (stage.reached - stage.begun))
        known = stage.whole or stage.state is AgentState.TRAINING
        return left / rate if rate is not None and known else None

    def _all_of(self, state: AgentState, work: Work) -> float | None:
        rate = self._rate_of(state, work)
        return None if rate is None else _whole(state, work) / rate

    def _rate_of(self, state: AgentState, work: Work) -> float | None:
        """The rate of earlier rounds."""
        if state is AgentState.TRAINING and state not in self._rates and work.training_s is not None:
            return 1.0 / work.training_s
        return self._rates.get(state)

    def _remember(self, stage: _Stage, beat: Heartbeat, now: float) -> None:
        """The heartbeat that ends a stage comes at once, with the counters as they are then."""
        trains, trained = stage.state is AgentState.TRAINING, beat.state is AgentState.UPLOADING
        reached = 1.0 if trains else _amount(stage.state, beat)
        rate = _rate(reached - stage.begun, now - stage.begun_at)
        if stage.state in STAGES and rate is not None and (trained or not trains):
            self._rates[stage.state] = rate


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if amount > 0 and seconds > 0 else None


def _amount(state: AgentState, beat: Heartbeat) -> float:
    amounts = {AgentState.FETCHING: beat.bytes_down, AgentState.UPLOADING: beat.bytes_up}
    return amounts.get(state, beat.progress)


def _whole(state: AgentState, work: Work) -> float:
    return {AgentState.FETCHING: work.download_bytes, AgentState.UPLOADING: work.upload_bytes}.get(state, 1.0)
