"""The body of a program for the runtime `litert`: a `.tflite` that trains, and what a device must know of it.

Its signatures are pure functions over theta, `float32[P]`; names and order are exact, B is the fixed batch:

    train(theta[P], opt[Q], lr[1], x[B,...], y[B,...], weight[B]) -> theta[P], opt[Q], loss[1]
    grad(theta[P], x, y, weight)     -> grad[Pt], loss[1], state[P-Pt], or [1] when the layout has no state
    apply(trained[Pt], opt[Q], lr[1], grad[Pt]) -> trained[Pt], opt[Q]
    evaluate(theta[P], x, y, weight) -> sums[M] (weighted sum of each metric), weight[1]
    infer(theta[P], x)               -> output[B,...]

`train` is `grad`, then `apply`; a device calls these two when a round has it change the gradient in between.
All are float32 but x and y, whose types stand in the body. `weight` is 1 for a real row and 0 for padding;
a loss is the mean over the real rows, regularisers added. `opt` begins as zeros.
"""

import zlib
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from broker.names import MetricName
from broker.program import MAX_EXTENT
from host.errors import WireError

# What does not deflate has to fit, as base64, into a program of 8 MiB.
MAX_TFLITE_BYTES = 6_000_000
MAX_BODY_CHARS = 8 << 20
MAX_BATCH = 65_536
LOSS = "loss"


def _deflated(tflite: bytes) -> bytes:
    return zlib.compress(tflite, zlib.Z_BEST_COMPRESSION)


def _inflated(content: bytes, info: ValidationInfo) -> bytes:
    """Undo `_deflated` for what came as JSON, without taking more memory than the largest file does."""
    if info.mode != "json":
        return content
    stream = zlib.decompressobj()
    try:
        tflite = stream.decompress(content, MAX_TFLITE_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from None
    if len(tflite) > MAX_TFLITE_BYTES:
        raise ValueError(f"inflates to more than {MAX_TFLITE_BYTES} bytes")
    if not stream.eof:
        raise ValueError("is cut short")
    if stream.unused_data:
        raise ValueError("goes on after its end")
    return tflite


TFLite = Annotated[
    bytes,
    AfterValidator(_inflated),
    Field(min_length=1, max_length=MAX_TFLITE_BYTES),
    PlainSerializer(_deflated, return_type=bytes, when_used="json"),
]
Extent = Annotated[int, Field(ge=1, le=1 << 24)]
# A complaint of every wrong item would take a hundred times the memory of the items.
Shape = Annotated[tuple[Extent, ...], Field(max_length=6), FailFast()]


class LiteRTBody(BaseModel):
    """A training program of builtin operators only, without weights."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )

    format: Literal[1] = 1
    batch: int = Field(ge=1, le=MAX_BATCH, description="B; fill a shorter batch with rows of weight 0")
    optimizer_size: int = Field(ge=1, lt=MAX_EXTENT, description="Q, the length of opt")
    learning_rate: float = Field(gt=0, description="as the task compiled it")
    metrics: Annotated[tuple[MetricName, ...], FailFast()] = Field(
        min_length=1, max_length=64, description="in the order of `evaluate`'s sums, `loss` first"
    )
    classes: bool = Field(description="y is int32 labels, not float32 targets")
    x_shape: Shape = Field(min_length=1, description="of one example")
    x_dtype: Literal["float32", "uint8", "int32"]
    y_shape: Shape = Field(description="of one example's label or target; () is a number")
    batch_statistics: bool = Field(
        description="rows of weight 0 count in BatchNormalization's statistics: every batch has to be full"
    )
    stochastic: bool = Field(
        default=False,
        description="it draws random numbers (Dropout), from the beginning in each new interpreter",
    )
    tflite: TFLite = Field(description="in JSON a zlib stream of it, as base64")

    @field_validator("metrics")
    @classmethod
    def _loss_first(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        if metrics[0] != LOSS or len(set(metrics)) != len(metrics):
            raise ValueError(f"the first metric is {LOSS!r}, and no two have one name")
        return metrics

    def to_json(self) -> str:
        """JSON, the file in it deflated (RFC 1950) and as base64 (RFC 4648, the URL-safe alphabet)."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, body: str) -> "LiteRTBody":
        """Read a body; raises WireError and nothing else."""
        if len(body) > MAX_BODY_CHARS:
            raise WireError(f"LiteRT program of {len(body)} characters, at most {MAX_BODY_CHARS} are read")
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(level) for level in fault["loc"]) or "as a whole"
            raise WireError(f"LiteRT program, {where}: {fault['msg']}"[:300]) from None
