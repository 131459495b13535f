"""A pool of child processes that do requests, in whatever order, for answers in the requests' order."""

import queue
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from host.children import Child, Json
from host.errors import ChildError


class Pool:
    """Children of one module, each of which gives one answer to one request; for one thread.

    Which child does what depends on chance, so what a request gives must not depend on earlier ones.
    """

    def __init__(self, module: str, processes: int) -> None:
        self._module = module
        # At most one answer, and how it ended, from each child.
        self._said: queue.SimpleQueue[tuple[int, Json | str]] = queue.SimpleQueue()
        self._children = [self._start(number) for number in range(processes)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()

    def ask(self, requests: Sequence[Json], done: Callable[[], None] = lambda: None) -> list[Json]:
        """The answers; `done` is called after each. Raises ChildError when a child ended instead."""
        waiting = deque(enumerate(requests))
        answers: dict[int, Json] = {}
        jobs: dict[int, int] = {}
        for number in range(min(len(self._children), len(waiting))):
            jobs[number] = self._hand_out(number, waiting)
        while len(answers) < len(requests):
            number, said = self._said.get()
            if isinstance(said, str):
                raise ChildError(f"a process of the simulation ended: {said}; try fewer --processes")
            answers[jobs.pop(number)] = said
            done()
            if waiting:
                jobs[number] = self._hand_out(number, waiting)
        return [answers[job] for job in range(len(requests))]

    def _hand_out(self, number: int, waiting: deque[tuple[int, Json]]) -> int:
        job, request = waiting.popleft()
        self._children[number].send(request)
        return job

    def _start(self, number: int) -> Child:
        def hear(said: Json | str) -> None:
            self._said.put((number, said))

        return Child(self._module, on_message=hear, on_exit=hear)
