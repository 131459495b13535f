"""What the documents say of a device, beyond its own."""

from collections.abc import Iterable

from broker.monitor import DeviceDocument, ParticipantDocument, RoundDocument

LOSS = "loss"


def remark(device: DeviceDocument) -> str:
    """What is the matter with a device, if anything is."""
    twice = "two machines use this id" if device.conflict else ""
    return "; ".join(text for text in (twice, device.not_selected) if text)


def losses(rounds: Iterable[RoundDocument]) -> dict[str, list[float]]:
    """Each device's loss by round, oldest first: of its training, or else on its own validation data."""
    found: dict[str, list[float]] = {}
    for document in rounds:
        for device, part in document.participants.items():
            loss = _loss(part)
            if loss is not None:
                found.setdefault(device, []).append(loss)
    return found


def _loss(part: ParticipantDocument) -> float | None:
    return part.training.get(LOSS, part.validation.get(LOSS))
