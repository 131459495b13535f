"""What the documents say of a device, beyond its own."""

from collections.abc import Sequence

from broker.monitor import DeviceDocument, ParticipantDocument, RoundDocument

LOSS = "loss"
# How a terminal shows what a device does; other states as they are.
STYLES = {"lost": "red", "training": "cyan", "uploading": "green", "evaluating": "magenta"}
# A processor of these devices slows itself down from here on.
HOT_C = 80.0


def is_hot(device: DeviceDocument) -> bool:
    """Whether it is too hot to train at full speed."""
    return device.temperature_c is not None and device.temperature_c >= HOT_C


def fits(device: DeviceDocument, words: str) -> bool:
    """Whether each of the words stands somewhere in what is known of a device."""
    if not words:
        return True
    known = (device.device, device.state, device.version, *device.tags, *device.runtimes, remark(device))
    text = " ".join(known).casefold()
    return all(word in text for word in words.casefold().split())


def remark(device: DeviceDocument) -> str:
    """What is the matter with a device, if anything is."""
    twice = "two machines use this id" if device.conflict else ""
    return "; ".join(text for text in (twice, device.not_selected) if text)


class LossHistory:
    """Each device's loss by round, of its training, or else on its own validation data."""

    def __init__(self) -> None:
        self._read: list[tuple[RoundDocument, dict[str, float]]] = []
        self._losses: dict[str, list[float]] = {}

    def of(self, rounds: Sequence[RoundDocument]) -> dict[str, list[float]]:
        """Oldest first, by device; a document that was read is not read again."""
        if len(rounds) != len(self._read) or any(
            one is not read for one, (read, _) in zip(rounds, self._read, strict=True)
        ):
            known = {id(document): found for document, found in self._read}
            self._read = [(one, known[id(one)] if id(one) in known else _losses(one)) for one in rounds]
            self._losses = {}
            for _, found in self._read:
                for device, loss in found.items():
                    self._losses.setdefault(device, []).append(loss)
        return self._losses


def _losses(document: RoundDocument) -> dict[str, float]:
    parts = document.participants.items()
    return {device: loss for device, part in parts if (loss := _loss(part)) is not None}


def _loss(part: ParticipantDocument) -> float | None:
    return part.training.get(LOSS, part.validation.get(LOSS))
