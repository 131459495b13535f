"""What monitor documents say of single devices' data, left out where devices seal it: anybody may read them.

Means over the fleet stay, as the model does.
"""

from typing import TypeVar

from broker.happenings import EventKind, Happening
from broker.monitor import DeviceDocument, Document, RoundDocument

Said = TypeVar("Said", Document, Happening)
_NOTHING_OF_A_PART = {"examples": 0, "training": {}, "validation": {}, "evaluation": {}}
_NOTHING_OF_A_DEVICE = {"examples": 0, "metrics": {}, "loss": None, "contribution": None}


def as_it_is(said: Said) -> Said:
    """Show all of it."""
    return said


def without_data(document: Document) -> Document:
    """Show neither metrics nor numbers of examples of a single device."""
    if isinstance(document, DeviceDocument):
        vague = {"not_selected": _vague(document.not_selected)}
        return document.model_copy(update=_NOTHING_OF_A_DEVICE | vague)
    if isinstance(document, RoundDocument):
        parts = {
            name: part.model_copy(update=_NOTHING_OF_A_PART) for name, part in document.participants.items()
        }
        # While they come in, means change by what one device said.
        means = document.federated if document.outcome is not None else {}
        return document.model_copy(update={"participants": parts, "federated": means})
    return document


def without_details(happening: Happening) -> Happening:
    """Why a device declines can be what its data is like: its word for it is enough."""
    if happening.kind is not EventKind.DECLINED:
        return happening
    text = f"round {happening.round}: {happening.device} declined, {happening.reason}"
    return happening.model_copy(update={"text": text})


def _vague(why: str) -> str:
    """What its data lacks, a device says itself, and people read it in the aggregator's log."""
    if why.startswith("holds "):
        return "holds too few examples"
    if why.startswith("not available, "):
        return why.split(": ", maxsplit=1)[0]
    return ": ".join(why.split(": ")[:2]) if why.startswith("declined ") else why
