"""The data contract: what a task expects of every device's examples."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
