"""Ten SGD steps in LiteRT and in Keras from the same start on the same batches: how far they part.

Prints a Markdown table: for each model the learning rate, the largest change of theta that Keras makes, the
largest difference of LiteRT's theta to Keras', and that as a part of the change. The last column is the
same for Keras and Keras again, from a start whose weights differ by about one rounding (1e-7 of each): what
no two correct programs can do better than. Then a JSON line.
The small models are those of tests/aggregator/keras/litert/test_layers.py, on random batches of 4; the two
CNNs have batches of 32, of random images and, given a folder of images by person and letter, of its letters.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.rebuild import rebuilt
from aggregator.keras.weights import set_theta, theta_of
from benchmarks.cnn import cnn
from tests.aggregator.keras.litert.in_litert import STEPS, batches, trained_in_keras, trained_in_litert
from tests.aggregator.keras.litert.small_models import BUILDERS

ROUNDING = 1e-7
BATCH = 32
Model = Any


def letters(folder: Path) -> list[Any]:
    """Ten batches of images in 0..1, float32[32, 100, 100, 1], and labels, from folders PERSON/.../LETTER."""
    files = sorted(folder.rglob("*.png"))
    names = sorted({file.parent.name for file in files})
    chosen = np.random.default_rng(0).choice(len(files), (STEPS, BATCH), replace=False)

    def image(file: Path) -> Any:  # noqa: ANN401
        return np.asarray(Image.open(file).convert("L"), np.float32)[:, :, None] / 255

    return [
        (
            np.stack([image(files[index]) for index in row]),
            np.array([names.index(files[index].parent.name) for index in row], np.int32),
        )
        for row in chosen
    ]


def measure(name: str, model: Model, batch: int, data: list[Any] | None = None) -> dict[str, float]:
    """Print a line of the table and give its figures."""
    body, again, start = export_litert(model, batch=batch), rebuilt(model), theta_of(model)
    data = data or batches(model, body)
    found, expected = trained_in_litert(body, start, data), trained_in_keras(model, data)
    noise = np.random.default_rng(1).normal(size=start.shape)
    set_theta(again, (start * (1 + ROUNDING * noise)).astype(np.float32))
    other = trained_in_keras(again, data)
    moved, apart, by_itself = (
        float(np.abs(theta - from_).max())
        for theta, from_ in ((expected, start), (found, expected), (other, expected))
    )
    rate = body.learning_rate
    print(
        f"| {name} | {rate:g} | {moved:.2g} | {apart:.1e} | {apart / moved:.1e} | {by_itself / moved:.1e} |",
        flush=True,
    )
    return {"learning_rate": rate, "moved": moved, "ratio": apart / moved, "keras": by_itself / moved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("letters", nargs="?", type=Path, help="folder of images, by person and letter")
    parser.add_argument("--only", default="", help="models with this in their name")
    options = parser.parse_args()
    be_deterministic()
    sgd = keras.optimizers.SGD
    cases: dict[str, Callable[[], tuple[Any, ...]]] = {
        build.__name__: lambda build=build: (build(), 4)  # type: ignore[misc]
        for build in BUILDERS
    }
    cases["MNIST CNN, random images"] = lambda: (cnn(28, sgd(0.05)), BATCH)
    cases["letters CNN, random images"] = lambda: (cnn(100, sgd(0.01)), BATCH)
    if options.letters:
        cases["letters CNN, letters"] = lambda: (cnn(100, sgd(0.05)), BATCH, letters(options.letters))
    print("| model | learning rate | largest change | largest difference | ratio | Keras to itself |")
    print("|---|---|---|---|---|---|")
    results = {name: measure(name, *case()) for name, case in cases.items() if options.only in name}
    print(json.dumps({"benchmark": "equality", "steps": STEPS, "models": results}))


if __name__ == "__main__":
    main()
