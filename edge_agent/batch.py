"""The effects of one event, and the snapshot that they rely on."""

from broker.messages import Message
from broker.topics import Branch
from edge_agent.effects import Effect, Log, Persist, Publish
from edge_agent.snapshot import Snapshot


class Batch:
    """Collects effects; a changed snapshot is persisted before anything else of the batch is done."""

    def __init__(self, kept: Snapshot) -> None:
        self.kept = kept
        self._changed = False
        self._effects: list[Effect] = []

    def keep(self, **changes: object) -> None:
        """Change what must survive a restart."""
        self.kept = self.kept.model_copy(update=changes)
        self._changed = True

    def add(self, effect: Effect) -> None:
        """Ask for one more effect."""
        self._effects.append(effect)

    def publish(self, branch: Branch, message: Message) -> None:
        """Ask for a message to be said."""
        self.add(Publish(branch, message))

    def log(self, text: str, *, warning: bool = False) -> None:
        """Ask for a line for people."""
        self.add(Log(text, warning))

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not self._effects and not self._changed

    def take(self) -> list[Effect]:
        """Hand the batch over, and begin the next."""
        taken = [*([Persist(self.kept)] if self._changed else []), *self._effects]
        self._effects, self._changed = [], False
        return taken
