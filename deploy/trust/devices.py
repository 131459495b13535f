"""Who is in the federation: the register, and what the aggregator last showed of each device."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.monitor import DeviceDocument
from broker.probe import collect
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE, Role
from deploy.pki.register import Issued
from deploy.registrar.tokens import TokenRow


class DeviceRow(BaseModel):
    """One device; times are in UTC. What no broker told is None, or empty."""

    model_config = ConfigDict(frozen=True)

    device: str
    certificate_until: datetime | None = None
    revoked: datetime | None = None
    """When its newest certificate was revoked; None while that one is good, unless it expired."""
    left_behind: bool = False
    """Its newest certificate is of an authority that nobody trusts any more."""
    token_until: datetime | None = None
    """Until when its token that nobody used yet is good."""
    certificates: int = 0
    state: str = ""
    tags: tuple[str, ...] = ()
    version: str = ""
    seen: datetime | None = None


def device_rows(
    issued: list[Issued],
    documents: Mapping[str, DeviceDocument],
    tokens: Mapping[str, datetime],
    sole_issuer: str | None = None,
) -> list[DeviceRow]:
    """A row for each device that ever had a certificate, has a token, or is known on the broker, by name.

    `tokens` says until when a device's is good, `sole_issuer` who alone is trusted to issue certificates:
    None while an authority gives way to another.
    """
    certificates: dict[str, list[Issued]] = {}
    for row in issued:
        if row.role == Role.DEVICE:
            certificates.setdefault(row.name, []).append(row)
    names = sorted(certificates.keys() | documents.keys() | tokens.keys())
    rows = (_row(name, certificates.get(name, []), documents.get(name), sole_issuer) for name in names)
    return [row.model_copy(update={"token_until": tokens.get(row.device)}) for row in rows]


def open_tokens(rows: Iterable[TokenRow], now: datetime) -> dict[str, datetime]:
    """Until when each device's token is good that nobody used yet."""
    unix_s = now.timestamp()
    return {
        row.device: datetime.fromtimestamp(row.expires_unix_s, UTC) for row in rows if row.is_open(unix_s)
    }


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


def _row(
    name: str, certificates: list[Issued], shown: DeviceDocument | None, sole_issuer: str | None
) -> DeviceRow:
    good = [row for row in certificates if row.revoked_at is None]
    # A renewal may end before the bundle's: what counts is what the device shows.
    newest = max(good or certificates, key=lambda row: row.issued_at, default=None)
    heard = shown.heard_at_unix_s if shown is not None else None
    return DeviceRow(
        device=name,
        certificate_until=newest.not_after if newest else None,
        revoked=newest.revoked_at if newest else None,
        left_behind=newest is not None and bool(newest.issuer) and sole_issuer not in {None, newest.issuer},
        certificates=len(certificates),
        state=shown.state if shown else "",
        tags=shown.tags if shown else (),
        version=shown.version if shown else "",
        seen=None if heard is None else datetime.fromtimestamp(heard, UTC),
    )
