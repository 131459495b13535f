"""The verbs that put a trained model to use: predict, confusion."""

import json
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from deploy.results.classifier import open_classifier
from deploy.results.confusion import Matrix, accuracy, confusion
from deploy.results.image import read_image
from deploy.results.labelled import load_labelled
from deploy.results.plots import plot_confusion

ModelPath = Annotated[Path, typer.Argument(help="A .keras file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]
SHOWN_CLASSES = 5


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command("predict")(predict_image)
    app.command("confusion")(confuse)


def predict_image(
    model: ModelPath,
    image: Annotated[Path, typer.Argument(help="An image file.", show_default=False)],
    *,
    invert: Annotated[
        bool, typer.Option("--invert", help="For dark on light, where the model knows light on dark.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what class an image is of."""
    quieten_tensorflow()
    classifier = open_classifier(model)
    pixels = read_image(image, classifier.shape, invert=invert)
    probabilities = classifier.probabilities(pixels[np.newaxis])[0]
    ranked = sorted(zip(classifier.classes, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])
    if as_json:
        typer.echo(json.dumps({"class": ranked[0][0], "probabilities": dict(ranked)}))
        return
    typer.echo(ranked[0][0])
    for name, probability in ranked[:SHOWN_CLASSES]:
        typer.echo(f"  {probability:7.2%}  {name}")


def confuse(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Argument(
            help="An .npz file (x, y), a folder of images by class, or IDX files.", show_default=False
        ),
    ],
    *,
    picture: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also draw it into this PNG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what a model predicts with what is true."""
    quieten_tensorflow()
    classifier = open_classifier(model)
    examples = load_labelled(data, classifier)
    predicted = classifier.probabilities(examples.x).argmax(axis=1)
    matrix = confusion(examples.y, predicted, len(classifier.classes))
    if picture is not None:
        plot_confusion(picture, matrix, classifier.classes, model.stem)
    by_class = {name: accuracy(matrix, [i]) for i, name in enumerate(classifier.classes)}
    if as_json:
        found = {"classes": classifier.classes, "matrix": matrix.tolist(), "accuracy": accuracy(matrix)}
        typer.echo(json.dumps({**found, "accuracy_by_class": by_class}))
        return
    Console().print(_table(matrix, classifier.classes))
    typer.echo(f"{accuracy(matrix):.2%} of {matrix.sum()} right")


def _table(matrix: Matrix, classes: tuple[str, ...]) -> Table:
    table = Table(title="true class by row, predicted by column", title_justify="left")
    for heading in ("", *classes, "right"):
        table.add_column(heading, justify="right")
    for index, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        cells = [_cell(count, right=index == column) for column, count in enumerate(counts.tolist())]
        part = accuracy(matrix, [index])
        table.add_row(name, *cells, "" if part is None else f"{part:.1%}")
    return table


def _cell(count: int, *, right: bool) -> str:
    if not count:
        return "[dim]·[/]"
    return f"[green]{count}[/]" if right else f"[red]{count}[/]"


def quieten_tensorflow() -> None:
    """Its remarks on processors and missing graphics cards are not about the model."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
