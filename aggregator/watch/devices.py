"""The document about a device."""

from aggregator.coordinator.fleet import Device
from aggregator.coordinator.state import Participant, Run
from aggregator.watch.annals import Standing
from aggregator.watch.federation import state_of
from broker.monitor import DeviceDocument, means
from broker.needs import Misfit

NOT_ASKED = Standing(0, 0, None, {}, {})


def device_document(
    name: str,
    device: Device,
    run: Run | None,
    misfit: Misfit | None,
    standing: Standing | None,
    *,
    alive: bool,
) -> DeviceDocument:
    """What is known of a device; `misfit` is why the active `run` does not select it.

    `standing` is of this run, or of the newest.
    """
    beat, presence = device.heartbeat, device.presence
    part, past = _part(name, run), standing or NOT_ASKED
    model = run.model if run is not None else None
    return DeviceDocument(
        device=name,
        live=alive,
        state=state_of(device, alive=alive),
        run=beat.run if beat else None,
        round=beat.round if beat else None,
        progress=round(beat.progress, 3) if beat else 0.0,
        examples_per_s=beat.examples_per_s if beat else 0.0,
        memory_bytes=beat.memory_bytes if beat else 0,
        temperature_c=beat.temperature_c if beat else None,
        battery=beat.battery if beat else None,
        bytes_up=beat.bytes_up if beat else 0,
        bytes_down=beat.bytes_down if beat else 0,
        examples=presence.examples,
        runtimes=presence.runtimes,
        tags=presence.tags,
        version=presence.version,
        conflict=device.conflict,
        measured_per_s=presence.speeds.get(model.program.digest) if model is not None else None,
        not_selected=misfit.why if misfit is not None else "",
        metrics=(means(part.validation) if part else {}) or past.validation,
        loss=((means(part.training) if part else {}) or past.training).get("loss"),
        asked=past.asked,
        accepted=past.accepted,
        contribution=None if past.contribution is None else round(past.contribution, 4),
        reliability=past.reliability,
    )


def _part(name: str, run: Run | None) -> Participant | None:
    return run.round.cohort.get(name) if run is not None and run.round is not None else None
