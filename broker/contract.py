"""What a task expects: the data contract, of every example; the needs, of every device."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.names import Finite, ShortText

# Far more than there is, and far less than an announcement can carry.
MAX_NEED = 1 << 50
Extent = Annotated[int, Field(ge=1, le=1 << 24)]
ClassName = Annotated[str, Field(min_length=1, max_length=64)]


class DataContract(BaseModel):
    """Shape and type of one example; classes only where there are some.

    With `classes`, labels are whole numbers that index it; without, targets are float32 of `target_shape`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Extent, ...] = Field(min_length=1, max_length=6)
    dtype: Literal["float32", "uint8", "int32"] = "float32"
    classes: tuple[ClassName, ...] | None = Field(default=None, max_length=4096)
    target_shape: tuple[Extent, ...] = Field(default=(), max_length=6)


class Needs(BaseModel):
    """What a device must have to take part; unless given, one example is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_bytes: int = Field(default=0, ge=0, le=MAX_NEED, description="of the machine, as Linux counts it")
    cores: int = Field(default=0, ge=0, le=MAX_NEED)
    machine: ShortText = Field(default="", description="part of the birth's `machine`: `aarch64`, `Pi 4`")
    tags: tuple[ShortText, ...] = Field(default=(), max_length=32, description="the device has all of them")
    examples: int = Field(default=1, ge=1, le=MAX_NEED, description="those for validation among them")
    examples_per_s: Finite = Field(default=0.0, ge=0, description="trained with the run's program")
