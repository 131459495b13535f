"""Effects carried out in order; held while the disk takes no more, so that nothing is said too soon."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aggregator.coordinator import effects as do
from host.errors import StorageError
from host.files import is_no_room

# Whoever waits for these asks again.
ASKED_AGAIN = (do.Send, do.Admit, do.AnswerFromLedger, do.Reject)

log = logging.getLogger(__name__)
Table = Mapping[type[do.Effect], Callable[[Any], None]]


class Deeds:
    """Does what the coordinator asks for by `table`; tells `filled` why, when the disk has no room.

    The coordinator's state is then ahead of the ledger. All that follows is held behind the effect that
    failed, so that nobody hears of a state that a crash would forget.
    """

    def __init__(self, table: Table, filled: Callable[[Exception], None]) -> None:
        self._table = table
        self._filled = filled
        self._held: list[do.Effect] = []

    @property
    def holding(self) -> bool:
        """Whether the coordinator's state is ahead of what was done."""
        return bool(self._held)

    def carry_out(self, effects: Sequence[do.Effect]) -> None:
        """Carry effects out, or hold them behind those that are held."""
        for place, effect in enumerate(effects):
            if self._held:
                self._hold(effects[place:])
                return
            try:
                self._table[type(effect)](effect)
            except (OSError, StorageError) as error:
                if not is_no_room(error):
                    raise
                self._hold(effects[place:])
                self._filled(error)
                return

    def hold(self, effect: do.Effect, error: Exception) -> None:
        """Keep an effect whose work began, and ended for want of room."""
        self._hold([effect])
        self._filled(error)

    def retry(self) -> None:
        """Carry out what is held, as far as there is room."""
        held, self._held = self._held, []
        self.carry_out(held)

    def _hold(self, effects: Sequence[do.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, do.Persist):
                self._hold_facts(effect)
            elif isinstance(effect, do.Announce):
                self._held = [held for held in self._held if not isinstance(held, do.Announce)]
                self._held.append(effect)
            elif not isinstance(effect, ASKED_AGAIN) and effect not in self._held:
                self._held.append(effect)

    def _hold_facts(self, persist: do.Persist) -> None:
        """All facts are committed at once, by the first of them: only the newest snapshot counts."""
        for place, held in enumerate(self._held):
            if isinstance(held, do.Persist):
                self._held[place] = do.Persist((*held.records, *persist.records), persist.snapshot)
                return
        self._held.append(persist)
