"""Which devices a run can use, and why it cannot use the others: for selecting them, and for people."""

from collections import Counter
from collections.abc import Collection

from aggregator.coordinator.cohort import needed
from aggregator.coordinator.fleet import Device, Fleet
from aggregator.coordinator.state import Run
from aggregator.run_settings import RunSettings
from broker.messages import AgentState, DeclineReason
from broker.needs import Misfit, Obstacle, find_misfit

# What no waiting mends: asked again, the device would say the same. A new connection may be a mended one.
LASTING = {DeclineReason.CONTRACT, DeclineReason.DATA, DeclineReason.RUNTIME, DeclineReason.PROGRAM}
MAX_WHY = 300

LOST = Misfit(Obstacle.LOST, "lost: neither birth nor heartbeat for a while")
DISPLACED = Misfit(Obstacle.DISPLACED, "displaced by another device with its id")


def available(fleet: Fleet, run: Run, now: float) -> list[str]:
    """Who could take part in the run's rounds; sorted."""
    return sorted(name for name, misfit in judged(fleet, run, now).items() if misfit is None)


def judged(fleet: Fleet, run: Run, now: float) -> dict[str, Misfit | None]:
    """Why each device is in no cohort of a prepared run; None where chance alone decides."""
    return {
        name: _misfit_of(device, run) if fleet.alive(name, now) else LOST
        for name, device in fleet.devices.items()
    }


def shortage(misfits: Collection[Misfit | None], settings: RunSettings) -> str:
    """Why no round can open, with how many devices are kept out by what; empty when enough fit."""
    fit, wanted = sum(misfit is None for misfit in misfits), needed(settings)
    if fit >= wanted:
        return ""
    counts = Counter(misfit.obstacle for misfit in misfits if misfit is not None)
    others = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return f"waits for devices: {wanted} needed, {fit} fit" + (f"; kept out: {others}" if others else "")


def declined(device: Device, run: str, reason: DeclineReason, detail: str) -> None:
    """Note that this device will not do, when that is so until somebody mends it."""
    if reason in LASTING:
        device.declined = (run, f"declined run {run}: {reason}: {detail}"[:MAX_WHY])


def _misfit_of(device: Device, run: Run) -> Misfit | None:
    """Why this device, which lives, does not fit."""
    assert run.model is not None
    birth, beat, runtime = device.presence, device.heartbeat, run.model.runtime
    if beat is not None and beat.state is AgentState.DISPLACED:
        return DISPLACED
    if runtime not in birth.runtimes:
        only = f", only {', '.join(birth.runtimes)}" if birth.runtimes else ""
        return Misfit(Obstacle.RUNTIME, f"has no runtime {runtime}{only}")
    lacking = find_misfit(birth, run.model.needs, run.model.program.digest)
    if lacking is None and device.declined is not None and device.declined[0] == run.run:
        return Misfit(Obstacle.DECLINED, device.declined[1])
    return lacking
