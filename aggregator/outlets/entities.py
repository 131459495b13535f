"""What Home Assistant shows of a federation and of a device: discovery payloads, read from our documents.

Device-based discovery, for Home Assistant 2024.11 and newer.
Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aggregator.coordinator.phases import Phase
from aggregator.watch.federation import PAUSED
from broker.discovery import Discovery
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_RUN,
)

# Beats of the aggregator that may be missed before its state is not known: a bridge may be down.
MISSED_BEATS = 3
MAX_METRICS = 8

Component = dict[str, Any]


def federation_payload(
    discovery: Discovery, version: str, beat_s: float, run: str | None, metrics: Iterable[str]
) -> bytes:
    """Describe the federation, its newest run, and this run's `metrics`."""
    topics = discovery.topics
    there = {"availability": [_aggregator_lives(discovery)]}
    components = {"online": _online(discovery, beat_s)}
    components |= {
        key: part | {"state_topic": topics.topic(MONITOR_FEDERATION)} | there
        for key, part in _FEDERATION.items()
    }
    if run is not None:
        of_run = _RUN | {_metric_key(name): _metric(name) for name in sorted(metrics)[:MAX_METRICS]}
        components |= {
            key: part | {"state_topic": topics.topic(MONITOR_RUN, run=run)} | there
            for key, part in of_run.items()
        }
    device = {
        "identifiers": [discovery.node],
        "name": f"midge {topics.federation}",
        "manufacturer": "midge",
        "model": "federation",
        "sw_version": version,
    }
    return _payload(discovery.node, version, device, components)


def device_payload(discovery: Discovery, version: str, name: str, agent: str, *, discreet: bool) -> bytes:
    """Describe a device whose agent has version `agent`; where `discreet`, nothing that tells of its data."""
    topic = discovery.topics.topic(MONITOR_DEVICE, device=name)
    lives = {"topic": topic, "value_template": "{{ 'online' if value_json.live else 'offline' }}"}
    components = _DEVICE | ({} if discreet else {"loss": _LOSS})
    # The rest goes with the device; whether it is there is known for as long as the aggregator is.
    components |= {"live": _LIVE | {"availability": [_aggregator_lives(discovery)]}}
    device = {
        "identifiers": [f"{discovery.node}_{name}"],
        "name": name,
        "manufacturer": "midge",
        "model": "device",
        "sw_version": agent or "unknown",
        "via_device": discovery.node,
    }
    shared = {
        "state_topic": topic,
        "availability": [_aggregator_lives(discovery), lives],
        "availability_mode": "all",
    }
    return _payload(f"{discovery.node}_{name}", version, device, components, shared)


def _payload(
    unique: str,
    version: str,
    device: Mapping[str, object],
    components: Mapping[str, Component],
    shared: Mapping[str, object] | None = None,
) -> bytes:
    described = {
        "dev": device,
        "o": {"name": "midge", "sw_version": version},
        "cmps": {key: {**part, "unique_id": f"{unique}_{key}"} for key, part in components.items()},
        **(shared or {}),
    }
    return json.dumps(described, separators=(",", ":")).encode()


def _sensor(name: str, template: str, **more: object) -> Component:
    # What renders as None is unknown to Home Assistant.
    return {"p": "sensor", "name": name, "value_template": template, **more}


def _measured(name: str, template: str, unit: str | None = None, **more: object) -> Component:
    units = {} if unit is None else {"unit_of_measurement": unit}
    return _sensor(name, template, state_class="measurement", **units, **more)


def _metric_key(name: str) -> str:
    """Without spaces, at which Home Assistant splits it."""
    return "metric_" + re.sub(r"\W", "_", name)


def _metric(name: str) -> Component:
    words = name.replace("_", " ")
    template = "{{ value_json.metrics[%s] | default(none) }}" % json.dumps(name)  # noqa: UP031 - braces
    return _measured(words[:1].upper() + words[1:], template, suggested_display_precision=4)


def _online(discovery: Discovery, beat_s: float) -> Component:
    return {
        "p": "binary_sensor",
        "name": "Aggregator",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": discovery.topics.topic(MONITOR_AGGREGATOR),
        "value_template": "{{ 'ON' if value_json.online else 'OFF' }}",
        "expire_after": max(1, round(MISSED_BEATS * beat_s)),
    }


def _aggregator_lives(discovery: Discovery) -> dict[str, str]:
    return {
        "topic": discovery.topics.topic(MONITOR_AGGREGATOR),
        "value_template": "{{ 'online' if value_json.online else 'offline' }}",
    }


_FEDERATION = {
    "phase": _sensor(
        "Phase", "{{ value_json.phase }}", device_class="enum", options=[*map(str, Phase), PAUSED]
    ),
    "run": _sensor("Run", "{{ value_json.run | default(none) }}"),
    "live": _measured("Live devices", "{{ value_json.live }}"),
}
_RUN = {
    "round": _measured("Round", "{{ value_json.round }}"),
    "seconds_left": _measured(
        "Time left",
        "{{ value_json.seconds_left | default(none) }}",
        "s",
        device_class="duration",
        suggested_display_precision=0,
    ),
}
_LIVE = {
    "p": "binary_sensor",
    "name": "Live",
    "device_class": "connectivity",
    "entity_category": "diagnostic",
    "value_template": "{{ 'ON' if value_json.live else 'OFF' }}",
}
_DEVICE = {
    "state": _sensor("State", "{{ value_json.state }}"),
    "progress": _measured("Progress", "{{ (100 * value_json.progress) | round(1) }}", "%"),
    "temperature": _measured(
        "Temperature",
        "{{ value_json.temperature_c | default(none) }}",
        "°C",
        device_class="temperature",
        entity_category="diagnostic",
    ),
    "battery": _measured(
        "Battery",
        "{{ (100 * value_json.battery) | round if value_json.battery is number else none }}",
        "%",
        device_class="battery",
        entity_category="diagnostic",
    ),
}
_LOSS = _measured("Loss", "{{ value_json.loss | default(none) }}", suggested_display_precision=4)
