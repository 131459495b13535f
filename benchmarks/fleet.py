"""What an event costs the coordinator while a run waits, trains or is evaluated, by the size of the fleet.

Prints a table and a JSON line: CPU of an event, and as a ratio to that of a quarter of the devices. What a
heartbeat costs should not grow with the fleet; births and reports may, in proportion.
"""

import json
import time
from collections.abc import Iterable, Iterator

from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Phase
from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import AgentState, BlobRef, Heartbeat, Offer, Presence, Report

FLEETS = (875, 3500)
SAMPLES = 200
HEARTBEAT_S = 5.0
RUN, RUNTIME, PARAMETERS = "run", "litert", 1000
NEEDS = Needs(memory_bytes=1 << 28, tags=("indoor",), examples_per_s=10.0)


def blob(number: int) -> BlobRef:
    return BlobRef(digest=f"{number:064x}", size=4000, chunk_bytes=1024)


THETA, PROGRAM, NEXT = blob(1), blob(2), blob(3)


def birth(number: int) -> on.DevicePresence:
    presence = Presence(
        online=True,
        connection=f"{number:016x}",
        cores=4,
        memory_bytes=1 << 30,
        runtimes=(RUNTIME,),
        tags=("indoor",),
        examples=100,
        speeds={PROGRAM.digest: 100.0},
    )
    return on.DevicePresence(f"d{number}", presence)


def heartbeat(number: int) -> on.DeviceHeartbeat:
    beat = Heartbeat(connection=f"{number:016x}", state=AgentState.TRAINING, progress=0.5)
    return on.DeviceHeartbeat(f"d{number}", beat)


def report(number: int) -> on.DeviceReport:
    return on.DeviceReport(f"d{number}", Report(run=RUN, round=1, metrics={"loss": (1.0, 2.0)}))


def offers(number: int) -> tuple[on.UpdateOffered, on.UpdateReceived]:
    device, offer = f"d{number}", Offer(run=RUN, round=1, update=blob(1000 + number), examples=10)
    return on.UpdateOffered(device, offer), on.UpdateReceived(device, offer)


class Fleet:
    """A coordinator with its devices, all heard, and a run."""

    def __init__(self, devices: int, **settings: object) -> None:
        self.core, self.now, self.devices = Coordinator(HEARTBEAT_S), 0.0, devices
        run = RunSettings.model_validate({"deadline_s": 1e6, "evaluation_deadline_s": 1e6} | settings)
        contract = DataContract(shape=(4,))
        prepared = on.Prepared(RUN, THETA, PROGRAM, "0" * 64, RUNTIME, contract, PARAMETERS, NEEDS)
        self.tell([on.Connected(), on.StartRun(RUN, "task", run), prepared])
        self.tell(birth(number) for number in range(devices))
        self.tell([on.BlobsPublished((PROGRAM, THETA))])

    def tell(self, events: Iterable[on.Event]) -> None:
        for event in events:
            self.now += 1e-6
            self.core.handle(event, self.now)

    def in_phase(self, phase: Phase) -> "Fleet":
        assert self.core.phase is phase, f"{self.core.phase} instead of {phase}"
        return self

    def cost(self, events: Iterable[on.Event]) -> float:
        """CPU of an event, in microseconds."""
        given = list(events)
        began = time.process_time()
        self.tell(given)
        return (time.process_time() - began) / len(given) * 1e6


def measured(devices: int) -> Iterator[tuple[str, float]]:
    some = range(SAMPLES)
    waiting = Fleet(devices, min_devices=4096).in_phase(Phase.WAITING)
    yield "waiting, heartbeat", waiting.cost(map(heartbeat, some))
    yield "waiting, birth", waiting.cost(birth(devices + number) for number in some)
    training = Fleet(devices, quorum=SAMPLES).in_phase(Phase.TRAINING)
    yield "training, heartbeat", training.cost(map(heartbeat, some))
    evaluated = Fleet(devices, target=SAMPLES, over_selection=10).in_phase(Phase.TRAINING)
    run = evaluated.core.run
    assert run is not None
    assert run.round is not None
    chosen = [int(name[1:]) for name in sorted(run.round.cohort)[:SAMPLES]]
    evaluated.tell(event for number in chosen for event in offers(number))
    evaluated.tell([on.Aggregated(RUN, 1, NEXT), on.BlobsPublished((PROGRAM, NEXT))])
    evaluated.in_phase(Phase.EVALUATING)
    yield "evaluating, heartbeat", evaluated.cost(map(heartbeat, some))
    yield "evaluating, report", evaluated.cost(map(report, some))
    evaluated.in_phase(Phase.EVALUATING)


def main() -> None:
    small, large = (dict(measured(devices)) for devices in FLEETS)
    print(f"{'microseconds of CPU an event':28}{FLEETS[0]:>10,}{FLEETS[1]:>10,}  ratio")
    for name, cost in large.items():
        print(f"{name:28}{small[name]:10.1f}{cost:10.1f}{cost / small[name]:7.1f}")
    figures = {name: [round(small[name], 2), round(cost, 2)] for name, cost in large.items()}
    print(json.dumps({"devices": FLEETS, "us": figures}))


if __name__ == "__main__":
    main()
