"""Names and sizes that every message shares, as annotated types for pydantic."""

from typing import Annotated

from pydantic import Field

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
RESERVED_IDS = frozenset({"aggregator", "broker", "enrolment", "monitor", "operator", "registrar"})

DeviceId = Annotated[str, Field(pattern=ID_PATTERN)]
RunId = Annotated[str, Field(pattern=ID_PATTERN)]
ConnectionId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
RequestId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Ed25519, hexadecimal")]
TransferId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="first 16 digits of a digest")]
RoundNumber = Annotated[int, Field(ge=1, le=1_000_000)]
MetricName = Annotated[str, Field(min_length=1, max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ShortText = Annotated[str, Field(max_length=300)]

# A metric travels as (sum, weight), so that the fleet's mean is an exact sum of sums.
Metrics = Annotated[dict[MetricName, tuple[Finite, Annotated[Finite, Field(ge=0)]]], Field(max_length=64)]

_ON = " on "


def metric_on(name: str, part: str) -> str:
    """The name of a metric that was measured on a part of the held-out data."""
    return f"{name}{_ON}{part}"


def is_of_whole(name: str) -> bool:
    """Whether a metric of this name was measured on all of the held-out data."""
    return _ON not in name
