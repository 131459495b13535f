"""The child that runs task files: builds, evaluates and saves models outside of the service's process."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aggregator.requests import BuildRequest, EvaluateRequest, Request
from aggregator.run_settings import RunSettings
from host.children import Child
from host.loop import Loop

MODULE = "aggregator.worker"

log = logging.getLogger(__name__)
Answer = dict[str, Any]


class Evaluator:
    """One request at a time; a new one takes the place of one that is still being worked on."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._child: Child | None = None
        self._waiting: tuple[Callable[[Answer], None], Callable[[str], None]] | None = None

    def build(
        self,
        task: Path,
        folder: Path,
        settings: RunSettings,
        initial: Path | None,
        done: Callable[[Answer], None],
        failed: Callable[[str], None],
    ) -> None:
        """Run the task file; writes its first theta and its program into `folder`."""
        self._ask(BuildRequest.of(task, folder, settings, initial), done, failed)

    def evaluate(
        self,
        task: Path,
        theta: Path,
        model: Path,
        done: Callable[[Answer], None],
        failed: Callable[[str], None],
    ) -> None:
        """Save the model with this theta as `model`, its ending added, and evaluate it on held-out data."""
        self._ask(EvaluateRequest(task=task, theta=theta, model=model), done, failed)

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._waiting = None
        if self._child is not None:
            self._child.kill()
            self._child = None

    def give_up(self) -> None:
        """Stop the request in hand; nobody wants its answer any more."""
        if self._waiting is not None:
            self.close()

    def _ask(self, request: Request, done: Callable[[Answer], None], failed: Callable[[str], None]) -> None:
        self.give_up()
        child = self._child or self._start()
        self._waiting = (done, failed)
        child.send(request.to_json())

    def _start(self) -> Child:
        def on_message(message: Answer) -> None:
            self._loop.post(lambda: self._answered(child, message))

        def on_exit(how: str) -> None:
            self._loop.post(lambda: self._ended(child, how))

        child = self._child = Child(MODULE, on_message=on_message, on_exit=on_exit)
        return child

    def _answered(self, child: Child, message: Answer) -> None:
        if child is not self._child or self._waiting is None:
            return
        (done, failed), self._waiting = self._waiting, None
        if message.get("event") == "failed":
            failed(str(message.get("detail", "no reason given")))
        else:
            done(message)

    def _ended(self, child: Child, how: str) -> None:
        if child is not self._child:
            return
        self._child = None
        log.error("the process of the task ended: %s", how)
        if self._waiting is not None:
            (_, failed), self._waiting = self._waiting, None
            failed(f"the process of the task ended: {how}")
