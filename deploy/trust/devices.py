"""Who is in the federation: the register, and what the aggregator last showed of each device."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.monitor import DeviceDocument
from broker.probe import collect
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE, Role
from deploy.pki.register import Issued


class DeviceRow(BaseModel):
    """One device; times are in UTC. What no broker told is None, or empty."""

    model_config = ConfigDict(frozen=True)

    device: str
    certificate_until: datetime | None = None
    revoked: datetime | None = None
    """When its newest certificate was revoked; None while that one is good, unless it expired."""
    certificates: int = 0
    state: str = ""
    tags: tuple[str, ...] = ()
    version: str = ""
    seen: datetime | None = None


def device_rows(issued: list[Issued], documents: Mapping[str, DeviceDocument]) -> list[DeviceRow]:
    """A row for each device that ever had a certificate, or is known on the broker, by name."""
    certificates: dict[str, list[Issued]] = {}
    for row in issued:
        if row.role == Role.DEVICE:
            certificates.setdefault(row.name, []).append(row)
    names = sorted(certificates.keys() | documents.keys())
    return [_row(name, certificates.get(name, []), documents.get(name)) for name in names]


def shown_devices(settings: BrokerSettings) -> dict[str, DeviceDocument] | None:
    """The documents that the broker retains, by device; None where it cannot be asked."""
    topics = settings.topics
    found = collect(settings, "devices", topics.filter(MONITOR_DEVICE))
    if found is None:
        return None
    documents = {}
    for topic, payload in found.items():
        address = topics.parse(topic)
        try:
            document = DeviceDocument.model_validate_json(payload)
        except ValidationError:
            continue
        if address is not None and address.branch is MONITOR_DEVICE:
            documents[address.fields["device"]] = document
    return documents


def _row(name: str, certificates: list[Issued], shown: DeviceDocument | None) -> DeviceRow:
    good = [row for row in certificates if row.revoked_at is None]
    newest = max(good or certificates, key=lambda row: row.not_after, default=None)
    heard = shown.heard_at_unix_s if shown is not None else None
    return DeviceRow(
        device=name,
        certificate_until=newest.not_after if newest else None,
        revoked=newest.revoked_at if newest else None,
        certificates=len(certificates),
        state=shown.state if shown else "",
        tags=shown.tags if shown else (),
        version=shown.version if shown else "",
        seen=None if heard is None else datetime.fromtimestamp(heard, UTC),
    )
