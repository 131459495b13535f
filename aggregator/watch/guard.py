"""Who only watches must not end the rounds: what fails there is told in the log, and passed over."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Guard:
    """Tells of each kind of failure once: looks come twice a second."""

    def __init__(self) -> None:
        self._told: set[tuple[str, type[Exception]]] = set()

    def run(self, name: str, work: Callable[[], object]) -> bool:
        """Do `work`, called `name`; whether that went well."""
        try:
            work()
        except Exception as error:
            if (name, type(error)) not in self._told:
                self._told.add((name, type(error)))
                log.exception("%s failed, rounds go on (said once)", name)
            return False
        return True
