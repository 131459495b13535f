"""Labelled data named on the command line: an .npz file, a folder of images by class, or IDX files."""

from pathlib import Path

from broker.contract import DataContract
from deploy.results.classifier import Classifier
from edge_agent.data.examples import Examples
from edge_agent.data.settings import DataSettings, IdxSettings, ImageFolderSettings, NpzSettings
from edge_agent.data.source import load
from host.errors import DataError

IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
# What a model is measured on is data that it was not trained on.
IDX_PARTS = ("t10k", "train")
RGB = 3


def load_labelled(path: Path, classifier: Classifier) -> Examples:
    """Read inputs float32[n, *shape] and class indexes int32[n]; raises DataError."""
    contract = DataContract(shape=classifier.shape, classes=classifier.classes)
    return load(_settings(path, classifier.shape), contract)


def _settings(path: Path, shape: tuple[int, ...]) -> DataSettings:
    if path.is_file():
        return NpzSettings(path=path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder")
    for part in IDX_PARTS:
        if any(path.glob(f"{part}{IMAGES}*")):
            return IdxSettings(path=path, images=part + IMAGES, labels=part + LABELS)
    if any(entry.is_dir() for entry in path.iterdir()):
        return ImageFolderSettings(path=path, mode="RGB" if shape[-1] == RGB else "L")
    raise DataError(f"{path}: neither one folder of images a class nor IDX files (t10k{IMAGES}) are in it")
