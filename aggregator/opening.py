"""Sealed updates, opened for as long as they are looked at: in the spool they stay sealed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from broker.sealing import SealingKey, context_of, is_sealed
from broker.topics import Topics
from host.errors import SealError


class Opening:
    """Gives files that can be mapped; with `required`, an update that is not sealed is refused."""

    def __init__(self, topics: Topics, key: SealingKey | None, *, required: bool) -> None:
        self._topics = topics
        self._key = key
        self._required = required

    @contextmanager
    def opened(self, path: Path, run: str, round_: int, device: str) -> Iterator[Path]:
        """The readable update; what is mapped of it stays so, its file is gone afterwards.

        Raises SealError when it does not open as that device's update of that round.
        """
        if not is_sealed(path):
            if self._required:
                raise SealError(f"the update {path.name} is not sealed")
            yield path
            return
        if self._key is None:
            raise SealError(f"the update {path.name} is sealed, and there is no sealing.key to open it with")
        context = context_of(self._topics, run, round_, device)
        with path.open("rb") as sealed, NamedTemporaryFile(dir=path.parent, prefix=".opened.") as plain:
            plain.writelines(self._key.open_update(sealed, context))
            plain.flush()
            yield Path(plain.name)
