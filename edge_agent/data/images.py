"""Examples from a folder with one folder of images a class."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from broker.contract import DataContract
from edge_agent.data.examples import AnyArray, Examples, Inspection, check_size
from edge_agent.data.fit import ContractError
from edge_agent.data.settings import ImageFolderSettings
from host.errors import DataError


def read(settings: ImageFolderSettings, contract: DataContract) -> Examples:
    """Images uint8 (n, *shape) by folder and name, resized to the contract's shape; raises DataError.

    Labels are int32 (n,), from the folders' names.
    """
    paths = [(label, path) for label, folder in _labelled(settings, contract) for path in _images(folder)]
    if not paths:
        raise DataError(f"{settings.path}: no image in its folders; put images in one folder a class")
    what = f"{settings.path}: {len(paths)} images"
    check_size(len(paths) * math.prod(contract.shape), settings.max_bytes, what)
    size = _size(settings, contract)
    x = np.empty((len(paths), *contract.shape), np.uint8)
    for row, (_, path) in zip(x, paths, strict=True):
        row[...] = _fitted(_pixels(path, settings, size), contract, path)
    return Examples(x, np.array([label for label, _ in paths], np.int32))


def inspect(settings: ImageFolderSettings) -> Inspection:
    """Count files by folder, and open the first one."""
    images = {folder.name: _images(folder) for folder in class_folders(settings)}
    first = next((paths[0] for paths in images.values() if paths), None)
    if first is None:
        raise DataError(f"{settings.path}: no image in its folders; put images in one folder a class")
    shape = _pixels(first, settings, None).shape
    return Inspection(
        sum(map(len, images.values())), shape, {name: len(paths) for name, paths in images.items()}
    )


def class_folders(settings: ImageFolderSettings) -> list[Path]:
    """The folders in `path`, in the order of their names; hidden ones are left out."""
    return sorted(path for path in settings.path.iterdir() if path.is_dir() and not path.name.startswith("."))


def _labelled(settings: ImageFolderSettings, contract: DataContract) -> list[tuple[int, Path]]:
    if contract.classes is None:
        raise ContractError(
            f"{settings.path}: the task has no classes, and folders of images have nothing else"
        )
    index = {name: i for i, name in enumerate(contract.classes)}
    folders = class_folders(settings)
    for folder in folders:
        if folder.name not in index:
            known = ", ".join(contract.classes)[:200]
            raise ContractError(
                f"{folder}: {folder.name!r} is none of the task's classes ({known}); rename or move it"
            )
    return [(index[folder.name], folder) for folder in folders]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _size(settings: ImageFolderSettings, contract: DataContract) -> tuple[int, int] | None:
    """Width and height to resize to; None when the contract has flat examples and so does not say."""
    channels = {"L": 1, "RGB": 3}[settings.mode]
    match contract.shape:
        case (height, width, *rest) if rest == [channels] or (not rest and channels == 1):
            return width, height
        case (_,):
            return None
    raise ContractError(
        f"{settings.path}: the task asks for {contract.shape}, which images of mode {settings.mode} do not "
        "have; set `mode`"
    )


def _pixels(path: Path, settings: ImageFolderSettings, size: tuple[int, int] | None) -> AnyArray:
    """One image: uint8 (height, width) or (height, width, 3)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                check_size(4 * image.width * image.height, settings.max_bytes, f"{path}: opened")
                upright = ImageOps.exif_transpose(image).convert(settings.mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too large an image ({error}); make it smaller") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: no image that can be read ({error}); replace or remove it") from None
    return np.asarray(upright if size is None else upright.resize(size, Image.Resampling.BILINEAR))


def _fitted(pixels: AnyArray, contract: DataContract, path: Path) -> AnyArray:
    if pixels.size != math.prod(contract.shape):
        raise ContractError(
            f"{path}: {pixels.size} values, the task asks for {contract.shape}; resize the images"
        )
    return pixels.reshape(contract.shape)
