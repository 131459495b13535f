"""What monitor documents say of single devices' data, left out where devices seal it: anybody may read them.

Means over the fleet stay, as the model does.
"""

from broker.monitor import DeviceDocument, Document, RoundDocument


def as_it_is(document: Document) -> Document:
    """Show all of it."""
    return document


def without_data(document: Document) -> Document:
    """Show neither metrics nor numbers of examples of a single device."""
    if isinstance(document, DeviceDocument):
        return document.model_copy(
            update={"examples": 0, "metrics": {}, "not_selected": _vague(document.not_selected)}
        )
    if isinstance(document, RoundDocument):
        parts = {
            name: part.model_copy(update={"examples": 0, "validation": {}})
            for name, part in document.participants.items()
        }
        return document.model_copy(update={"participants": parts})
    return document


def _vague(why: str) -> str:
    """A device is told how many examples it lacks by itself, and people by the aggregator's log."""
    return "holds too few examples" if why.startswith("holds ") else why
