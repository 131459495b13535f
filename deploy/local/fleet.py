"""Broker, aggregator and agents as processes, and the loop that watches them; all end together."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from aggregator.settings import TaskSettings
from broker.control import SettingValue, Verb
from broker.monitor import RunDocument
from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics
from deploy.command.control import ask, new_request
from deploy.local.folder import FleetFolder
from deploy.local.notice import posted
from deploy.local.processes import Job, Processes
from deploy.viewing.feed import Feed
from deploy.viewing.view import View
from edge_agent.data.settings import DataSettings
from host.errors import ChildError

FEDERATION = "local"
LOOK_S = 0.1
# Python, and on a busy machine TensorFlow, take their time to load.
ONLINE_S = 120.0
BUILT_S = 300.0


class LocalFleet:
    """A federation in `folder`: `devices` by name with their data, and an aggregator with `tasks`.

    Entering starts the broker, and tells viewers of this user where it is (deploy/local/notice.py);
    `go_online` starts the rest. However the `with` block is left, no process stays.
    `show` is called several times a second with what is known of the fleet.
    """

    def __init__(
        self,
        folder: FleetFolder,
        tasks: Mapping[str, TaskSettings],
        devices: Mapping[str, DataSettings],
        show: Callable[[View], None],
        *,
        heartbeat_s: float = 0.5,
    ) -> None:
        self.folder = folder
        self._tasks, self._devices, self._show = tasks, devices, show
        self._heartbeat_s = heartbeat_s
        self._topics = Topics(FEDERATION)
        self._all = ExitStack()

    def __enter__(self) -> Self:
        people = {"aggregator": Role.AGGREGATOR, "operator": Role.OPERATOR, "monitor": Role.MONITOR}
        accounts = {**people, **dict.fromkeys(self._devices, Role.DEVICE)}
        with ExitStack() as started:
            # In this order: the broker is the last to end.
            broker = Mosquitto(self.folder.broker, self._topics, accounts, persistence=False)
            started.enter_context(broker)
            self._account = broker.settings
            self._feed = Feed(self._account("monitor"))
            started.enter_context(posted(self._account("monitor"), self._account("operator")))
            self.processes = started.enter_context(Processes(self.folder.logs))
            self._all = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.close()

    @property
    def view(self) -> View:
        """What the monitor topics told so far."""
        return self._feed.view

    @property
    def url(self) -> str:
        """Where the broker listens."""
        return self._account("monitor").url

    def go_online(self) -> None:
        """Start the aggregator and all agents, and wait until they are there; raises ChildError."""
        self._all.enter_context(self._feed)
        settings = self.folder.write_aggregator(self._account("aggregator"), self._tasks, self._heartbeat_s)
        self.processes.service("aggregator", "aggregator.main", "run", "--config", str(settings))
        for device, data in self._devices.items():
            settings = self.folder.write_agent(self._account(device), device, data)
            self.processes.service(f"device-{device}", "edge_agent.main", "run", "--config", str(settings))
        self._wait_for(self._online, ONLINE_S, "the aggregator and all devices were not online")

    def run(self, task: str, settings: Mapping[str, SettingValue]) -> RunDocument:
        """Start a run and watch it until it is finished; raises ChildError when it ends otherwise."""
        request = new_request(Verb.START, task, dict(settings))
        reply = ask(self._account("operator"), request, BUILT_S, meanwhile=self._look)
        if not reply.ok or reply.run is None:
            raise ChildError(f"the run did not start: {reply.text}")
        name = reply.run
        self._wait_for(lambda: self._finished(name) is not None)
        document = self._finished(name)
        assert document is not None
        return document

    def wait_for(self, job: Job) -> str:
        """Watch until a job is done, and give the last line of its output; raises ChildError."""
        self._wait_for(lambda: job.result() is not None)
        return job.result() or ""

    def _online(self) -> bool:
        aggregator = self.view.aggregator
        return aggregator is not None and aggregator.online and self.view.live == len(self._devices)

    def _finished(self, run: str) -> RunDocument | None:
        document = self.view.run
        if document is None or document.run != run:
            return None
        if document.state in ("paused", "stopped", "failed"):
            raise ChildError(f"the run is {document.state}: {document.reason or 'see the logs'}")
        return document if document.state == "finished" else None

    def _wait_for(
        self, condition: Callable[[], bool], limit_s: float | None = None, otherwise: str = ""
    ) -> None:
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not condition():
            if deadline is not None and time.monotonic() > deadline:
                raise ChildError(f"{otherwise} within {limit_s:g} s; see the logs (--keep DIR keeps them)")
            self._look(LOOK_S)

    def _look(self, wait_s: float = 0.0) -> None:
        """Take in what arrived, see that all processes live, and show it."""
        self._feed.look(wait_s)
        if self._feed.refused:
            raise ChildError(self._feed.trouble)
        self.processes.check()
        self._show(self.view)
