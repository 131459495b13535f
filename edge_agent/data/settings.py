"""Where a device's examples lie: one settings model a kind of source."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="the file, or the folder")
    max_bytes: int = Field(
        default=512 << 20, ge=1, description="most bytes of examples that are read to memory"
    )


class NpzSettings(_Source):
    """A file of `numpy.savez` with two arrays."""

    kind: Literal["npz"] = "npz"
    x: str = Field(default="x", description="name of the array of inputs")
    y: str = Field(default="y", description="name of the array of labels or targets")


class IdxSettings(_Source):
    """A folder of two IDX files, as MNIST comes, plain or gzip."""

    kind: Literal["idx"] = "idx"
    images: str = Field(
        default="train-images-idx3-ubyte", description="file in the folder; .gz may be left out"
    )
    labels: str = Field(
        default="train-labels-idx1-ubyte", description="file in the folder; .gz may be left out"
    )


class CsvSettings(_Source):
    """A text file of one example a row, under a header."""

    kind: Literal["csv"] = "csv"
    target: str = Field(description="column of the label or target")
    columns: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="columns of the input, in order; None: all but the target"
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="what stands between fields")


class ImageFolderSettings(_Source):
    """A folder with one folder of images a class."""

    kind: Literal["image-folder"] = "image-folder"
    mode: Literal["L", "RGB"] = Field(default="L", description="L: grey; RGB: colour")


DataSettings = Annotated[
    NpzSettings | IdxSettings | CsvSettings | ImageFolderSettings, Field(discriminator="kind")
]
