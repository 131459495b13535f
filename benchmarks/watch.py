"""What the aggregator says under `monitor/` of fleets of 3 to 10,000 devices, and what that costs it.

The real watch over a real coordinator and a ledger on the disk; the clock is the benchmark's own, so that
minutes pass in seconds. Devices beat every 5 s; rounds have up to 500 of them, which train for 25 to 45 s.
Share of a core: processor time of the watch alone by the clock's time. Longest look: so long a round waits
for it, in seconds of the processor. Then what each of 500 devices did in 50 and in 200 rounds, asked of the
ledger by a new process, and by the same after one more round. Prints tables and a JSON line.

    python -m benchmarks.watch
"""

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Phase
from aggregator.ledger import Ledger
from aggregator.records import Record, RoundClosed, RoundOpened, RunStarted, UpdateAccepted
from aggregator.run_settings import RunSettings
from aggregator.watch.annals import Standings
from aggregator.watch.past import Past
from aggregator.watch.watch import Watch
from broker.contract import DataContract, Needs
from broker.messages import AgentState, BlobRef, Heartbeat, Offer, Presence, Report
from broker.topics import Topics

RUN, RUNTIME = "bench-run", "litert"
BEAT_S, LOOK_S = 5.0, 0.5
TRAINING_S = (25.0, 45.0)
COHORT = 500
FOUND = {"loss": (120.0, 480.0), "accuracy": (400.0, 480.0)}


def blob(number: int) -> BlobRef:
    return BlobRef(digest=f"{number:064x}", size=40_000, chunk_bytes=98_304)


class Row(NamedTuple):
    """Of one fleet."""

    devices: int
    rounds: int
    messages_per_s: float
    busiest_messages: int
    kb_per_s: float
    busiest_kb: float
    share_of_a_core: float
    longest_look_s: float


class Federation:
    """A coordinator with devices that do what they are asked to, and a watch over it."""

    def __init__(self, folder: Path, count: int) -> None:
        self._random = random.Random(0)  # noqa: S311 - a benchmark's dice
        self.now = 1000.0
        self.cpu_s = self.longest_s = 0.0
        self.sent: list[tuple[float, int]] = []
        self._ledger = Ledger(folder / "ledger.sqlite")
        self.core = Coordinator(BEAT_S, self.now)
        past = Past(self._ledger, folder)
        self._watch = Watch(
            self.core, past, Topics("bench"), self._publish, session=1, dropped=lambda: 0, rate_s=LOOK_S
        )
        self._ledger.listener = self._note
        self._ends: dict[str, float] = {}
        self._names = [f"device-{number:05}" for number in range(count)]
        self._begin(count)

    def close(self) -> None:
        self._ledger.close()

    def live(self, seconds: float) -> None:
        """Let time pass."""
        steps = int(BEAT_S / LOOK_S)
        for step in range(int(seconds / LOOK_S)):
            self.now += LOOK_S
            due = self.core.next_deadline()
            if due is not None and due <= self.now:
                self._tell(on.Tick())
            for name in self._names[step % steps :: steps]:
                self._tell(on.DeviceHeartbeat(name, self._beat(name)))
            self._work()
            self._timed(lambda: self._watch.look(self.now))

    def _begin(self, count: int) -> None:
        self._tell(on.Connected())
        for number, name in enumerate(self._names):
            birth = Presence(
                online=True,
                connection=f"{number:016x}",
                version="0.1.0",
                runtimes=(RUNTIME,),
                tags=("hall-b",),
                examples=480,
            )
            self._tell(on.DevicePresence(name, birth))
        settings = RunSettings(rounds=1000, target=min(count, COHORT), over_selection=1.0, deadline_s=300.0)
        self._tell(on.StartRun(RUN, "bench", settings, "0" * 16))
        contract = DataContract(shape=(4,))
        self._tell(on.Prepared(RUN, blob(0), blob(1), "1" * 64, RUNTIME, contract, 10_000, Needs()))

    def _work(self) -> None:
        """Whoever has trained for long enough sends its update; then the round ends."""
        run = self.core.run
        assert run is not None
        current = run.round
        if current is None:
            self._ends.clear()
        elif run.phase is Phase.TRAINING:
            for name in current.cohort.keys() - self._ends.keys():
                self._ends[name] = self.now + self._random.uniform(*TRAINING_S)
            for name in sorted(current.outstanding):
                if self._ends[name] <= self.now:
                    self._upload(name, current.number)
        elif run.phase is Phase.AGGREGATING:
            self._tell(on.Aggregated(RUN, current.number, blob(1000 + current.number)))
        elif run.phase is Phase.EVALUATING:
            for name in sorted(current.cohort.keys() - current.reports.keys()):
                self._tell(on.DeviceReport(name, Report(run=RUN, round=current.number, metrics=FOUND)))
            self._ends.clear()
            self._tell(on.Evaluated(RUN, current.number, FOUND))

    def _upload(self, name: str, number: int) -> None:
        offer = Offer(
            run=RUN,
            round=number,
            update=blob(self._names.index(name) + (number << 20)),
            examples=480,
            metrics=FOUND,
            validation=FOUND,
            seconds=self._random.uniform(*TRAINING_S),
        )
        self._tell(on.UpdateOffered(name, offer))
        self._tell(on.UpdateReceived(name, offer))

    def _beat(self, name: str) -> Heartbeat:
        device, run = self.core.fleet.devices[name], self.core.run
        left_s = self._ends.get(name, 0.0) - self.now
        trains = left_s > 0
        current = run.round if run is not None and trains else None
        return Heartbeat(
            connection=device.presence.connection,
            state=AgentState.TRAINING if trains else AgentState.IDLE,
            run=RUN if current else None,
            round=current.number if current else None,
            progress=min(1.0, max(0.0, 1.0 - left_s / TRAINING_S[1])) if trains else 0.0,
            examples_per_s=self._random.uniform(10, 50) if trains else 0.0,
            memory_bytes=61_000_000 + self._random.randrange(1 << 20),
            temperature_c=round(self._random.uniform(45, 75), 1),
        )

    def _tell(self, event: on.Event) -> None:
        for effect in self.core.handle(event, self.now):
            if isinstance(effect, do.Persist):
                self._ledger.commit(effect.records, effect.snapshot)
            elif isinstance(effect, do.PublishBlobs):
                self._tell(on.BlobsPublished(effect.blobs))

    def _note(self, noted: Sequence[Record]) -> None:
        self._timed(lambda: self._watch.note(noted))

    def _timed(self, work: Callable[[], None]) -> None:
        began = time.process_time()
        work()
        took_s = time.process_time() - began
        self.cpu_s += took_s
        self.longest_s = max(self.longest_s, took_s)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:  # noqa: ARG002 - the watch's name
        self.sent.append((self.now, len(topic) + len(payload)))
        return True


def measured(count: int, seconds: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder), count)
        federation.live(seconds)
        run, sent = federation.core.run, federation.sent
        assert run is not None
        federation.close()
    busiest = [_second(sent, at) for at, _ in sent]
    return Row(
        devices=count,
        rounds=run.completed,
        messages_per_s=len(sent) / seconds,
        busiest_messages=max(messages for messages, _ in busiest),
        kb_per_s=sum(size for _, size in sent) / seconds / 1000,
        busiest_kb=max(bytes_ for _, bytes_ in busiest) / 1000,
        share_of_a_core=federation.cpu_s / seconds,
        longest_look_s=federation.longest_s,
    )


def _second(sent: Sequence[tuple[float, int]], at: float) -> tuple[int, int]:
    """Messages and bytes of the second that begins then."""
    sizes = [size for when, size in sent if at <= when < at + 1.0]
    return len(sizes), sum(sizes)


def standings_s(folder: Path, devices: int, rounds: int) -> tuple[float, float]:
    """To ask what each device did: of all rounds, and then of one more."""
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.commit([RunStarted(RUN, "bench", {"rounds": rounds + 1}, 0)], None)
    names = tuple(f"device-{number:05}" for number in range(devices))
    for number in range(1, rounds + 2):
        ledger.commit(_round(number, names), None)
    asked = Standings(ledger, RUN)
    # The garbage of what was measured before is none of it.
    gc.collect()
    seconds = []
    for newest in (rounds, rounds + 1):
        began = time.process_time()
        assert len(asked.read(newest)) == devices
        seconds.append(time.process_time() - began)
    ledger.close()
    return seconds[0], seconds[1]


def _round(number: int, names: tuple[str, ...]) -> list[Record]:
    updates = [
        UpdateAccepted(RUN, number, name, f"{number:064x}", 40_000, 480, FOUND, FOUND, 30.0) for name in names
    ]
    closed = RoundClosed(RUN, number, "completed", "", blob(number), FOUND, FOUND)
    return [RoundOpened(RUN, number, names, len(names), 1), *updates, closed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[3, 500, 2000, 10_000])
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    print(f"{'':>8}{'':>8}{'messages':>18}{'kB':>18}{'share of':>10}{'longest':>10}")
    rates = f"{'a second':>10}{'busiest':>8}" * 2
    print(f"{'devices':>8}{'rounds':>8}{rates}{'a core':>10}{'look, s':>10}")
    rows = []
    for count in given.devices:
        row = measured(count, given.seconds)
        rows.append(row)
        print(
            f"{row.devices:8}{row.rounds:8}{row.messages_per_s:10.1f}{row.busiest_messages:8}"
            f"{row.kb_per_s:10.1f}{row.busiest_kb:8.1f}{row.share_of_a_core:9.1%}{row.longest_look_s:10.3f}"
        )
    queries = []
    print(f"\n{'updates':>8}{'all, s':>10}{'one more, s':>14}")
    for rounds in (50, 200):
        with tempfile.TemporaryDirectory() as folder:
            whole_s, next_s = standings_s(Path(folder), 500, rounds)
        queries.append({"updates": 500 * rounds, "all_s": round(whole_s, 4), "next_s": round(next_s, 4)})
        print(f"{500 * rounds:8,}{whole_s:10.3f}{next_s:14.4f}")
    fleets = [{name: round(value, 3) for name, value in row._asdict().items()} for row in rows]
    print(json.dumps({"benchmark": "watch", "fleets": fleets, "standings": queries}))


if __name__ == "__main__":
    main()
