"""A model and an update of 10 MB through a slow link, whole and cut again and again: one round each.

A real Mosquitto, aggregator and agent, the agent behind a relay that lets 512 kB/s pass each way, with little
buffer of its own. Prints a table with the targets and a JSON line; exits with 1 when a target is missed.

- heartbeat delay: from the agent's debug log saying that it was sent to a subscriber beside the broker having
  it, on one clock; the worst of a round. What a cut swallowed is counted as lost.
- bytes: all that crossed the link that way, heartbeats and answers included, beyond the size of theta.
- order delay: the other way, from one that gives the device orders beside the broker to the agent's log.
- silence: the longest time between two heartbeats that came; what the aggregator notices of a cut.
"""

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.bad_link_task import CLASSES, INPUTS
from benchmarks.bad_link_task import __file__ as task
from broker.events import Received, SessionEvent
from broker.messages import AgentState, Grant, Heartbeat
from broker.session import Session
from broker.topics import HEARTBEAT, INBOX
from broker.wire import decode, encode
from tests.system.lab import Lab
from tests.system.proxy import Link

DEVICE = "pi-1"
BYTES_PER_S = 512_000
THETA_BYTES = 4 * (INPUTS + 1) * CLASSES
EXAMPLES = 8
CUT_EVERY_S = 20.0
DAY_S = 86_400
TARGETS = {"heartbeat delay, s": 1.0, "up beyond the update, %": 5.0, "down beyond the model, %": 5.0}
ORDER_EVERY_S = 0.25
CLOCK = r"^(\d\d):(\d\d):(\d\d\.\d+) DEBUG +"
SENT = re.compile(CLOCK + r"sent \S+/heartbeat: .*?connection='(\w+)'", re.MULTILINE)
HEARD = re.compile(CLOCK + r"ignored: update (\w+) is not pending", re.MULTILINE)

Row = dict[str, float]


@dataclass(frozen=True)
class Beat:
    """A heartbeat that came, and the second of the day when it did."""

    at: float
    said: Heartbeat


class Listener:
    """Hears a device's heartbeats beside the broker."""

    def __init__(self, lab: Lab) -> None:
        self.beats: list[Beat] = []
        topic = lab.topics.filter(HEARTBEAT, device=DEVICE)
        account = lab.account("aggregator")
        self._session = Session(account, "listener", self._hear, will=None, subscriptions=[(topic, 1)])
        self._session.start()

    def stop(self) -> None:
        self._session.stop()

    def _hear(self, event: SessionEvent) -> None:
        if isinstance(event, Received):
            self.beats.append(Beat(second_of_day(), decode(Heartbeat, event.payload)))


class Orders:
    """Grants for nothing, which the agent ignores and says so: each has a number."""

    def __init__(self, lab: Lab) -> None:
        self.sent: dict[str, float] = {}
        self._topic = lab.topics.topic(INBOX, device=DEVICE)
        self._session = Session(
            lab.account("aggregator"), "orders", lambda _: None, will=None, subscriptions=[]
        )
        self._session.start()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()
        self._session.stop()

    def _send(self) -> None:
        while not self._enough.wait(ORDER_EVERY_S):
            number = f"{len(self.sent):016x}"
            order = Grant(run="nothing", round=1, transfer=number, indexes=())
            if self._session.publish(self._topic, encode(order)) is not None:
                self.sent[number] = second_of_day()


def second_of_day() -> float:
    """As the log's clock shows it."""
    now = time.time()
    local = time.localtime(now)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + now % 1


def sent_beats(log: str) -> dict[str, list[float]]:
    """When the agent sent its heartbeats, by connection; none of them overtakes another."""
    sent: dict[str, list[float]] = {}
    for *clock, connection in SENT.findall(log):
        sent.setdefault(connection, []).append(seconds(*clock))
    return sent


def delays_of(beats: Iterable[Beat], sent: dict[str, list[float]]) -> list[float]:
    """How long each heartbeat that came was on its way, in seconds."""
    left = {connection: iter(times) for connection, times in sent.items()}
    return [apart(next(left[beat.said.connection]), beat.at) for beat in beats]


def order_delays(orders: dict[str, float], log: str) -> list[float]:
    """How long each order that came was on its way, in seconds."""
    heard = {number: seconds(*clock) for *clock, number in HEARD.findall(log)}
    return [apart(at, heard[number]) for number, at in orders.items() if number in heard]


def seconds(hour: str, minute: str, second: str) -> float:
    """Read the log's clock as the second of the day."""
    return int(hour) * 3600 + int(minute) * 60 + float(second)


def apart(sooner: float, later: float) -> float:
    """Seconds between two of a day, over midnight too; a moment below 0, as the log drops microseconds."""
    return (later - sooner + DAY_S / 2) % DAY_S - DAY_S / 2


def measure(folder: Path, cut_every_s: float | None) -> Row:
    """One round through a link, cut every so many seconds from when the agent starts."""
    chance = np.random.default_rng(1)
    x = chance.normal(size=(EXAMPLES, INPUTS)).astype(np.float32)
    np.savez(folder / f"{DEVICE}.npz", x=x, y=np.arange(EXAMPLES, dtype=np.int32))
    with Lab(folder) as lab, Link(lab.mosquitto.port, BYTES_PER_S) as link:
        lab.start_aggregator(Path(task))
        listener = Listener(lab)
        lab.start_agent(DEVICE, port=link.port)
        lab.until(lambda seen: seen.get(f"devices/{DEVICE}", {}).get("live"))
        orders, began = Orders(lab), time.monotonic()
        if cut_every_s is not None:
            link.cut_every(cut_every_s)
        run = lab.start_run(rounds=1, federated_evaluation=False, batch_size=4)
        lab.until_state(DEVICE, AgentState.UPLOADING)
        fetched = time.monotonic()
        closed = lab.until_round(run, 1, "closed")
        ended = time.monotonic()
        up, down, cuts = link.up, link.down, link.cuts
        lab.until_ended(run)
        orders.stop()
        listener.stop()
        assert closed["outcome"] == "completed", closed
        return figures(listener.beats, orders.sent, lab.log(DEVICE)) | {
            "cuts": cuts,
            "down, s": round(fetched - began, 1),
            "up, s": round(ended - fetched, 1),
            "down beyond the model, %": beyond(down),
            "up beyond the update, %": beyond(up),
        }


def figures(beats: list[Beat], orders: dict[str, float], log: str) -> Row:
    sent = sent_beats(log)
    delays = delays_of(beats, sent)
    silences = [apart(sooner.at, later.at) for sooner, later in pairwise(beats)]
    return {
        "heartbeats": len(beats),
        "heartbeats lost": sum(map(len, sent.values())) - len(beats),
        "heartbeat delay, s": round(max(delays), 3),
        "order delay, s": round(max(order_delays(orders, log)), 3),
        "longest silence, s": round(max(silences), 2),
    }


def beyond(crossed: int) -> float:
    return round(100 * (crossed / THETA_BYTES - 1), 2)


def show(results: dict[str, Row]) -> list[str]:
    """Print the table; gives what was missed."""
    print(f"{'':26}" + "".join(f"{name:>14}" for name in results) + f"{'target':>10}")
    missed = []
    for name in next(iter(results.values())):
        found, target = [row[name] for row in results.values()], TARGETS.get(name)
        over = target is not None and max(found) > target
        verdict = "" if target is None else f"{target:10g}  {'MISSED' if over else 'met'}"
        print(f"{name:26}" + "".join(f"{value:14g}" for value in found) + verdict)
        missed += [name] if over else []
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cut-every", type=float, default=CUT_EVERY_S, metavar="SECONDS", help="how often")
    given = parser.parse_args()
    results: dict[str, Row] = {}
    for name, cut_every_s in (("whole", None), (f"cut, {given.cut_every:g} s", given.cut_every)):
        with tempfile.TemporaryDirectory(prefix="midge-link-") as folder:
            results[name] = measure(Path(folder), cut_every_s)
    missed = show(results)
    print(json.dumps({"benchmark": "bad_link", **results, "targets": TARGETS, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
