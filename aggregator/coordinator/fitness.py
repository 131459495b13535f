"""Which devices a run can use, and why it cannot use the others: for selecting them, and for people."""

import math
from collections import Counter
from collections.abc import Collection

from aggregator.coordinator.cohort import needed
from aggregator.coordinator.fleet import MAX_DEVICES, Device, Fleet
from aggregator.coordinator.state import LastingDecline, Run
from aggregator.run_settings import RunSettings
from broker.messages import AgentState, DeclineReason
from broker.needs import Misfit, Obstacle, find_misfit

# What no waiting mends: asked again, the device would say the same. A new connection may be a mended one.
LASTING = {DeclineReason.CONTRACT, DeclineReason.DATA, DeclineReason.RUNTIME, DeclineReason.PROGRAM}
# One a device stands in every snapshot of the run; the ledger has each in full.
MAX_WHY = 200

LOST = Misfit(Obstacle.LOST, "lost: neither birth nor heartbeat for a while")
BUSY = Misfit(Obstacle.BUSY, "works on its update of the round before, which still counts")
DISPLACED = Misfit(Obstacle.DISPLACED, "displaced by another device with its id")


def available(fleet: Fleet, run: Run, now: float) -> list[str]:
    """Who could take part in the rounds of a prepared run, in no order."""
    fit = [(name, device) for name, device in fleet.living(now) if _misfit_of(name, device, run) is None]
    return [name for name, device in fit if run.late is None or not is_busy(device, run)]


def eligible(fleet: Fleet, run: Run, now: float) -> list[str]:
    """Whom the next round can select, in no order: who backs off only where the others are too few."""
    known, number, settings = run.experience, run.last_round + 1, run.settings
    fit = available(fleet, run, now)
    if not known.back_offs:
        return fit
    reliable = [name for name in fit if not known.backs_off(name, number)]
    wanted = max(needed(settings), math.ceil((settings.target or 0) * settings.over_selection))
    out = [name for name in fit if known.backs_off(name, number)]
    out.sort(key=lambda name: (known.back_offs[name].failures, name))
    return reliable + out[: max(0, wanted - len(reliable))]


def judged(fleet: Fleet, run: Run, now: float) -> dict[str, Misfit | None]:
    """Why each device is in no cohort of a prepared run; None where chance alone decides."""
    return {
        name: _misfit_now(name, device, run) if fleet.alive(name, now) else LOST
        for name, device in fleet.devices.items()
    }


def shortage(misfits: Collection[Misfit | None], settings: RunSettings) -> str:
    """Why no round can open, with how many devices are kept out by what; empty when enough fit."""
    counts = Counter(misfit.obstacle for misfit in misfits if misfit is not None)
    # Who backs off is asked all the same where a round cannot do without.
    wanted, fit = needed(settings), len(misfits) - counts.total() + counts.pop(Obstacle.BACKS_OFF, 0)
    if fit >= wanted:
        return ""
    others = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return f"waits for devices: {wanted} needed, {fit} fit" + (f"; kept out: {others}" if others else "")


def note_decline(fleet: Fleet, run: Run, name: str, reason: DeclineReason, detail: str) -> None:
    """Note that this device will not do, when that is so until somebody mends it."""
    device = fleet.devices.get(name)
    room = name in run.declined or len(run.declined) < MAX_DEVICES
    if device is not None and reason in LASTING and room:
        why = f"{reason}: {detail}"[:MAX_WHY]
        run.declined[name] = LastingDecline(connection=device.presence.connection, why=why)
        device.verdict = None


def is_busy(device: Device, run: Run) -> bool:
    """Whether a device still works on the round that closed last, which takes late updates."""
    beat, late = device.heartbeat, run.late
    if beat is None or late is None or beat.state is AgentState.IDLE:
        return False
    return (beat.run, beat.round) == (run.run, late.round) and beat.state is not AgentState.EVALUATING


def _misfit_now(name: str, device: Device, run: Run) -> Misfit | None:
    found = _misfit_of(name, device, run) or _back_off(name, run)
    return BUSY if found is None and is_busy(device, run) else found


def _back_off(name: str, run: Run) -> Misfit | None:
    known, number = run.experience, run.last_round if run.round is not None else run.last_round + 1
    backs_off = known.backs_off(name, number)
    return Misfit(Obstacle.BACKS_OFF, known.back_offs[name].why) if backs_off else None


def _misfit_of(name: str, device: Device, run: Run) -> Misfit | None:
    """Why this device, which lives, does not fit; looked into once for all that is known of it."""
    if device.verdict is None or device.verdict[0] != run.run:
        device.verdict = run.run, _judge(name, device, run)
    return device.verdict[1]


def _judge(name: str, device: Device, run: Run) -> Misfit | None:
    assert run.model is not None
    birth, runtime = device.presence, run.model.runtime
    if device.displaced:
        return DISPLACED
    if runtime not in birth.runtimes:
        only = f", only {', '.join(birth.runtimes)}" if birth.runtimes else ""
        return Misfit(Obstacle.RUNTIME, f"has no runtime {runtime}{only}")
    if birth.unavailable is not None:
        return Misfit(Obstacle.UNAVAILABLE, f"not available, {birth.unavailable}: {birth.detail}")
    declined = run.declined.get(name)
    lacking = find_misfit(birth, run.model.needs, run.model.program.digest)
    if lacking is None and declined is not None and declined.connection == birth.connection:
        return Misfit(Obstacle.DECLINED, f"declined run {run.run}: {declined.why}")
    return lacking
