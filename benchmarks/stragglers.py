"""What a slow or dead participant costs a round: the coordinator against one that waits for all.

Simulated: the real coordinator, devices that train for a minute or so each and beat every five seconds, no
network. Prints a table and a JSON line: the time of a round in seconds, and as a ratio to that without the
straggler; then how often quorum and target are reached when devices drop out by chance.

    python -m benchmarks.stragglers --rounds 10000
"""

import argparse
import heapq
import json
import random
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from statistics import mean, median

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.records import RoundClosed
from aggregator.run_settings import RunSettings
from broker.contract import DataContract
from broker.messages import AgentState, BlobRef, Heartbeat, Invite, Offer, Presence

HEARTBEAT_S, TRAINING_S, SPREAD_S = 5.0, 60.0, 6.0
RUN, RUNTIME = "run", "litert"


def blob(number: int) -> BlobRef:
    return BlobRef(digest=f"{number:064x}", size=4000, chunk_bytes=1024)


class Simulation:
    """A fleet whose last device may be slow, and of which some die in the middle of a training."""

    def __init__(self, devices: int, *, drop_out: float = 0.0, slow: float = 1.0, **settings: object) -> None:
        self._core, self._now = Coordinator(HEARTBEAT_S), 0.0
        self._chance = random.Random(7)  # noqa: S311 - a benchmark's dice
        self._names = [f"d{number:03}" for number in range(devices)]
        self._drop_out, self._slow = drop_out, slow
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._thetas = count(), count(10)
        self._training: dict[str, tuple[float, float]] = {}
        self._silent: set[str] = set()
        self._number, self._opened_at = 0, 0.0
        self.round_s: list[float] = []
        self.accepted: list[int] = []
        self._rounds_over = 0
        usual = {"federated_evaluation": False, "rounds": 1_000_000, "abandoned_limit": 1000}
        run = RunSettings.model_validate(usual | {"deadline_s": 3600.0} | settings)
        prepared = on.Prepared(RUN, blob(1), blob(2), "0" * 64, RUNTIME, DataContract(shape=(4,)), 1000)
        self._tell(on.Connected(), on.StartRun(RUN, "task", run), prepared)
        self._be_born(self._names)
        for name in self._names:
            self._at(self._chance.uniform(0, HEARTBEAT_S), partial(self._beat, name))

    def play(self, rounds: int) -> "Simulation":
        """Let so many rounds come to their end."""
        while self._rounds_over < rounds:
            due = self._core.next_deadline()
            if due is not None and due <= self._queue[0][0]:
                self._now = due
                self._tell(on.Tick())
            else:
                self._now, _, deed = heapq.heappop(self._queue)
                deed()
        return self

    def _at(self, time_s: float, deed: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time_s, next(self._order), deed))

    def _tell(self, *events: on.Event) -> None:
        for event in events:
            for effect in self._core.handle(event, self._now):
                self._carry_out(effect)

    def _soon(self, event: on.Event) -> None:
        self._at(self._now, partial(self._tell, event))

    def _carry_out(self, effect: do.Effect) -> None:
        match effect:
            case do.Persist(records):
                self._rounds_over += sum(isinstance(record, RoundClosed) for record in records)
            case do.Announce(assignment) if assignment is not None and assignment.round > self._number:
                self._number, self._opened_at, self._training = assignment.round, self._now, {}
                self._at(self._now, partial(self._begin, assignment.cohort or ()))
            case do.Send(device, Invite()):
                self._at(self._now, partial(self._begin, [device]))
            case do.Admit(device, offer):
                self._soon(on.UpdateReceived(device, offer))
            case do.PublishBlobs(_, blobs):
                self._soon(on.BlobsPublished(blobs))
            case do.Aggregate(_, number):
                self.round_s.append(self._now - self._opened_at)
                self.accepted.append(len(effect.updates))
                self._soon(on.Aggregated(RUN, number, blob(next(self._thetas))))
            case do.Evaluate(_, number):
                self._soon(on.Evaluated(RUN, number, None))

    def _be_born(self, names: Iterable[str]) -> None:
        for name in names:
            connection = f"{int(name[1:]):016x}"
            birth = Presence(online=True, connection=connection, runtimes=(RUNTIME,), examples=100)
            self._tell(on.DevicePresence(name, birth))

    def _begin(self, cohort: Iterable[str]) -> None:
        """Who died in an earlier round is back; some of these will die."""
        chosen = set(cohort)
        back, self._silent = self._silent - chosen, self._silent & chosen
        self._be_born(sorted(back | self._silent))
        self._silent = set()
        for name in sorted(chosen):
            seconds = self._chance.uniform(TRAINING_S - SPREAD_S, TRAINING_S + SPREAD_S)
            seconds *= self._slow if name == self._names[-1] else 1.0
            self._training[name] = self._now, seconds
            if self._chance.random() < self._drop_out:
                self._at(self._now + self._chance.uniform(0, seconds), partial(self._silent.add, name))
            self._at(self._now + seconds, partial(self._finish, name, self._number))

    def _beat(self, name: str) -> None:
        self._at(self._now + HEARTBEAT_S, partial(self._beat, name))
        if name in self._silent:
            return
        beat = Heartbeat(connection=f"{int(name[1:]):016x}", state=AgentState.IDLE)
        if name in self._training:
            begun_at, seconds = self._training[name]
            done = min(1.0, (self._now - begun_at) / seconds)
            work = {"state": AgentState.TRAINING, "run": RUN, "round": self._number, "progress": done}
            beat = beat.model_copy(update=work)
        self._tell(on.DeviceHeartbeat(name, beat))

    def _finish(self, name: str, number: int) -> None:
        if number == self._number and name in self._training and name not in self._silent:
            del self._training[name]
            update = blob((number << 32) + int(name[1:]))
            self._tell(on.UpdateOffered(name, Offer(run=RUN, round=number, update=update, examples=10)))


def straggling(rounds: int) -> dict[str, list[float]]:
    """Median time of a round by how it waits: without a straggler, and with one ten times slower."""
    found = {}
    for name, factor in (("waits for all", None), ("straggler_factor 3", 3.0)):
        found[name] = [
            median(Simulation(20, slow=slow, straggler_factor=factor).play(rounds).round_s)
            for slow in (1.0, 10.0)
        ]
    return found


def dropping(rounds: int) -> dict[str, list[float]]:
    """Part of the rounds that reached the quorum of 16 and the target of 20, and the mean of updates."""
    cases = {"10%, no pool": (26, 0.1), "20%, no pool": (26, 0.2), "20%, pool of 24": (50, 0.2)}
    settings = {"target": 20, "quorum": 16, "over_selection": 1.3, "deadline_s": 300.0}
    found = {}
    for name, (devices, drop_out) in cases.items():
        accepted = Simulation(devices, drop_out=drop_out, **settings).play(rounds).accepted
        found[name] = [
            len(accepted) / rounds,
            sum(updates >= settings["target"] for updates in accepted) / rounds,
            mean(accepted),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    times, reached = straggling(min(rounds, 50)), dropping(rounds)
    print(f"{'seconds a round, 20 devices':30}{'alike':>10}{'one slow':>10}  ratio")
    for name, (alike, slow) in times.items():
        print(f"{name:30}{alike:10.1f}{slow:10.1f}{slow / alike:7.2f}")
    print(f"{f'drop-out, {rounds:,} rounds':30}{'quorum':>10}{'target':>10}  updates")
    for name, (quorum, target, updates) in reached.items():
        print(f"{name:30}{quorum:10.2%}{target:10.2%}{updates:9.1f}")
    print(json.dumps({"rounds": rounds, "seconds": times, "reached": reached}))


if __name__ == "__main__":
    main()
