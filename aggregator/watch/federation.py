"""The documents about the federation as a whole."""

from collections import Counter

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.fleet import Device
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Run
from aggregator.ledger import Ledger
from broker.monitor import FederationDocument, IncidentDocument, IncidentsDocument

LOST, PAUSED = "lost", "paused"


def federation(core: Coordinator, dropped: int, now: float) -> FederationDocument:
    """The fleet in numbers; `dropped` messages were undecodable or unwanted."""
    fleet, run = core.fleet, core.run
    states = Counter(state_of(device, alive=fleet.alive(name, now)) for name, device in fleet.devices.items())
    return FederationDocument(
        devices=len(fleet.devices),
        live=len(fleet.devices) - states[LOST],
        states=dict(sorted(states.items())),
        run=run.run if run else None,
        task=run.task if run else None,
        phase=phase_of(run),
        messages_dropped=dropped,
    )


def incidents(ledger: Ledger) -> IncidentsDocument:
    """The newest mishaps."""
    return IncidentsDocument(
        incidents=tuple(
            IncidentDocument(
                kind=row.kind,
                at_unix_s=row.unix_s,
                run=row.run,
                round=row.round,
                subject=row.subject,
                detail=row.detail,
            )
            for row in ledger.incidents()
        )
    )


def phase_of(run: Run | None) -> str:
    """Where the coordinator is, or that it pauses there."""
    if run is None:
        return Phase.IDLE
    return PAUSED if run.paused is not None else run.phase


def state_of(device: Device, *, alive: bool) -> str:
    """What a device does, by its own word."""
    if not alive:
        return LOST
    return device.heartbeat.state if device.heartbeat is not None else "idle"
