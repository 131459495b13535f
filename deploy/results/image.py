"""An image file made to fit a model's input."""

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from host.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class _Fit(NamedTuple):
    mode: str
    height: int
    width: int


def read_image(path: Path, shape: tuple[int, ...], *, invert: bool = False) -> NDArray[np.float32]:
    """Pixels 0 to 255 as float32[*shape], resized and in the mode that the shape asks for.

    Raises DataError.
    """
    mode, height, width = _fit(shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert(mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too large an image ({error}); make it smaller") from None
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; give the path of an image") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: no image that can be read ({error})") from None
    # As devices do it with their images.
    pixels = np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return (255 - pixels if invert else pixels).reshape(shape)


def _fit(shape: tuple[int, ...]) -> _Fit:
    """Read height, width, channels from a model's input; a flat one is taken as a grey square."""
    match shape:
        case (height, width):
            return _Fit("L", height, width)
        case (height, width, channels) if channels in MODES:
            return _Fit(MODES[channels], height, width)
        case (pixels,) if math.isqrt(pixels) ** 2 == pixels:
            return _Fit("L", math.isqrt(pixels), math.isqrt(pixels))
    raise DataError(f"the model takes shape {shape}, which is no image's")
