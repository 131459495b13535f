"""Runs in a storm: kills and bad links until so many kills have happened, then calm, then the books."""

import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from broker.control import Reply, Request, SettingValue, Verb
from deploy.command.control import UnansweredError, ask
from tests.chaos.books import LOUD, Receipt, receipts
from tests.chaos.federation import AGGREGATOR, DEVICES, Federation
from tests.chaos.replay import Replayer
from tests.chaos.schedule import Kill, schedule

# After this many kills the storm is over for a run, which then has to end.
KILLS_A_RUN = 20
STORM_S = 120.0
CALM_S = 120.0
ANSWER_S = 30.0
LOOK_S = 0.05
SETTINGS: dict[str, SettingValue] = {
    "rounds": 4,
    "epochs": 5,
    "batch_size": 16,
    "min_devices": 3,
    "quorum": 2,
    # No kill is a reason to wait for a deadline: one that does waits longer than the calm lasts.
    "deadline_s": 3600.0,
    "evaluation_deadline_s": 3600.0,
}


@dataclass
class Tally:
    """What happened, and what must not have."""

    kills: Counter[str] = field(default_factory=Counter)
    ills: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    run_s: list[float] = field(default_factory=list)
    rounds: int = 0
    updates: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        times = f"median {statistics.median(self.run_s):.1f} s, longest {max(self.run_s):.1f} s"
        return [
            f"kills      {_counted(self.kills)}",
            f"links      {_counted(self.ills)}",
            f"runs       {len(self.run_s)}, {times}",
            f"rounds     {self.rounds} completed",
            f"updates    {self.updates} counted and replayed; devices heard {_counted(self.answers)}",
            f"violations {len(self.violations)}",
        ]


class Storm:
    """Chaos on one federation."""

    def __init__(self, federation: Federation, seed: int) -> None:
        self._federation = federation
        self._schedule = schedule(seed, DEVICES)
        self.tally = Tally()
        self._replayer = Replayer(federation.folder / AGGREGATOR, federation.data, federation.folder)

    def rage(self, kills: int, say: Callable[[str], object]) -> None:
        """Do run after run until there were so many kills."""
        while (left := kills - self.tally.kills.total()) > 0 and not self.tally.violations:
            say(self._one_run(min(left, KILLS_A_RUN)))

    def _one_run(self, kills: int) -> str:
        request = Request(id=secrets.token_hex(8), verb=Verb.START, task="blobs", settings=SETTINGS)
        began, before = time.monotonic(), self.tally.kills.total()
        with self._asked(request) as reply:
            self._blow(request.id, kills)
            run = self._calm_down(request.id)
            self._check_reply(reply, run)
        seconds = time.monotonic() - began
        if run is None:
            return "no run was finished"
        self.tally.run_s.append(seconds)
        killed = self.tally.kills.total() - before
        self._settle()
        self._read_books(run)
        return f"{run}: {killed} kills, {seconds:.1f} s, {len(self.tally.violations)} violations"

    @contextmanager
    def _asked(self, request: Request) -> Iterator[Future[Reply]]:
        """Have an operator ask, through the storm, until there is an answer or nobody wants it any more."""
        over = Event()

        def meanwhile() -> None:
            if over.is_set():
                raise TimeoutError

        account = self._federation.account("operator")
        with ThreadPoolExecutor(1) as pool:
            try:
                yield pool.submit(ask, account, request, STORM_S + CALM_S, meanwhile)
            finally:
                over.set()

    def _blow(self, request: str, kills: int) -> None:
        """Do what the schedule says, for as long as the run lasts."""
        over = time.monotonic() + STORM_S
        while kills > 0 and time.monotonic() < over:
            gap_s, deed = next(self._schedule)
            if self._wait(gap_s, lambda: self._ended(request)):
                return
            harm = self._federation.do(deed)
            if harm is not None and isinstance(deed, Kill):
                self.tally.kills[harm] += 1
                kills -= 1
            elif harm is not None:
                self.tally.ills[harm] += 1

    def _calm_down(self, request: str) -> str | None:
        """Heal everything: now the run has to end."""
        self._federation.heal()
        done = self._wait(CALM_S, lambda: self._ended(request))
        about = self._federation.run_of(request)
        if about is None or not done:
            self.tally.violations.append(f"the run has not ended {CALM_S:g} s after the storm: {about}")
            return None
        if about["outcome"] != "finished":
            self.tally.violations.append(f"{about['run']} {about['outcome']}: {about['reason']}")
            return None
        return about["run"]

    def _check_reply(self, reply: Future[Reply], run: str | None) -> None:
        try:
            answer = reply.result(ANSWER_S)
        except (TimeoutError, UnansweredError):
            self.tally.violations.append(f"the operator who began {run} has no answer")
            return
        if not answer.ok or answer.run != run:
            self.tally.violations.append(f"the operator was told: {answer}, about run {run}")

    def _settle(self) -> None:
        """Every device is answered, and lives."""
        if not self._wait(CALM_S, lambda: not self._federation.unanswered()):
            found = self._federation.unanswered().items()
            self.tally.violations += [f"{device} {why}" for device, why in found]

    def _read_books(self, run: str) -> None:
        heard: set[Receipt] = set()
        for name in (AGGREGATOR, *DEVICES):
            news = self._federation.news(name)
            self.tally.violations += [f"{name} logged: {line}" for line in LOUD.findall(news)]
            heard |= set(receipts(name, news))
        self.tally.answers += Counter(receipt.outcome for receipt in heard)
        self.tally.violations += [f"{receipt}" for receipt in sorted(heard) if receipt.outcome == "rejected"]
        replayed = self._replayer.replay(run, {r for r in heard if r.outcome == "accepted"})
        self.tally.rounds += replayed.rounds
        self.tally.updates += replayed.updates
        self.tally.violations += [*replayed.violations, *self._federation.violations]
        self._federation.violations.clear()

    def _wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Let the federation go on for a time; True as soon as it is done."""
        until = time.monotonic() + seconds
        while not done():
            self._federation.tend()
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_S)
        return True

    def _ended(self, request: str) -> bool:
        about = self._federation.run_of(request)
        return about is not None and about["outcome"] is not None


def rage(folder: Path, kills: int, seed: int, say: Callable[[str], object]) -> Tally:
    """Have a storm in a federation in `folder`, and say what came of it."""
    with Federation(folder) as federation:
        storm = Storm(federation, seed)
        storm.rage(kills, say)
        return storm.tally


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in what.most_common()) + f": {what.total()}"
