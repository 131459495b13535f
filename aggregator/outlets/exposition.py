"""`/metrics` for Prometheus: the figures as metric families, and the server that says them.

Names and units: https://prometheus.io/docs/practices/naming/
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.coordinator.phases import Phase
from aggregator.outlets.figures import Figures, Newest
from aggregator.watch.federation import LOST, PAUSED
from broker.messages import AgentState
from broker.monitor import DeviceDocument, FederationDocument, RoundDocument, RunDocument

CONNECTIONS = 8
SILENCE_S = 10.0

log = logging.getLogger(__name__)
Document = TypeVar("Document")


class Exposition(Collector):
    """Makes metric families of the figures; of single devices, only while there are at most `max_devices`."""

    def __init__(self, figures: Figures, version: str, federation: str, max_devices: int) -> None:
        self._figures = figures
        self._info = {"version": version, "federation": federation}
        self._max_devices = max_devices

    def collect(self) -> Iterator[Metric]:
        """Every family, with those that have no value yet."""
        newest = self._figures.read()
        yield _labelled("midge_info", "Which midge, and which federation.", self._info)
        yield from _of(newest.federation, _FEDERATION)
        yield _states("midge_phase", "Where the coordinator is.", "phase", _PHASES, _phase(newest))
        yield _by("midge_devices_in_state", "Devices by what they do.", "state", _device_states(newest))
        yield from _of(newest.run, _RUN)
        yield _run_info(newest.run)
        metrics = {} if newest.run is None else newest.run.metrics
        yield _by("midge_run_metric", "Newest metrics of the model.", "metric", metrics)
        yield from _of(newest.round, _ROUND)
        yield _gauge(
            "midge_round_closed_timestamp_seconds", "When a round closed last.", newest.closed_unix_s
        )
        yield _gauge("midge_round_duration_seconds", "How long the last round took.", newest.last_round_s)
        yield from _counters(newest)
        yield from self._devices(newest.devices)

    def _devices(self, devices: Mapping[str, DeviceDocument]) -> Iterator[Metric]:
        shown = devices if len(devices) <= self._max_devices else {}
        yield _gauge(
            "midge_devices_without_series",
            "Devices that have no series of their own, for there are more than metrics_devices.",
            len(devices) - len(shown),
        )
        for name, what, value in _DEVICE:
            family = GaugeMetricFamily(name, what, labels=["device"])
            for device, document in shown.items():
                if (number := value(document)) is not None:
                    family.add_metric([device], number)
            yield family


class MetricsServer:
    """Serves `/metrics` from threads of its own; raises OSError when the address is not free."""

    def __init__(self, collector: Collector, host: str, port: int) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(collector)
        self._server = _server(host, port)
        self._server.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """Takes so many connections at once; others are closed, unanswered."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Leave out the look-up of our own name, which can take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's types
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the library's names
        log.debug("a request for metrics of %s failed", client_address)


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        log.debug(format, *args)


def _server(host: str, port: int) -> WSGIServer:
    return (_IPv6Server if ":" in host else _Server)((host, port), _Handler)


# -- families ------------------------------------------------------------------------------------------

Value = float | None


class _Row(NamedTuple):
    name: str
    what: str
    value: Callable[[Any], Value]


_PHASES = (*map(str, Phase), PAUSED)
_STATES = (*map(str, AgentState), LOST)
_FEDERATION = (
    _Row("midge_devices", "Devices that are known.", lambda d: d.devices),
    _Row("midge_devices_live", "Devices that live.", lambda d: d.live),
    _Row("midge_run_active", "Whether there is a run.", lambda d: float(d.run is not None)),
)
_RUN = (
    _Row("midge_run_round", "The run's newest round.", lambda d: d.round),
    _Row("midge_run_rounds", "Rounds that the run is to have.", lambda d: d.rounds),
    _Row("midge_run_started_timestamp_seconds", "When the run began.", lambda d: d.started_unix_s),
    _Row("midge_run_parameters", "Parameters of the model.", lambda d: d.parameters),
    _Row("midge_run_left_seconds", "Until the last round closes, at this pace.", lambda d: d.seconds_left),
)
_ROUND = (
    _Row("midge_round_number", "The newest round that was shown.", lambda d: d.round),
    _Row("midge_round_target", "Updates that the round wants.", lambda d: d.target),
    _Row("midge_round_quorum", "Updates that the round needs.", lambda d: d.quorum),
    _Row("midge_round_reported", "Updates that count.", lambda d: d.reported),
    _Row("midge_round_participants", "Devices in the round.", lambda d: len(d.participants)),
    _Row("midge_round_left_seconds", "Until the phase's deadline.", lambda d: d.seconds_left),
    _Row("midge_round_eta_seconds", "Until enough updates are expected.", lambda d: d.eta_s),
)
_DEVICE = (
    _Row("midge_device_live", "Whether the device lives.", lambda d: float(d.live)),
    _Row("midge_device_conflict", "Whether two machines use its id.", lambda d: float(d.conflict)),
    _Row("midge_device_progress_ratio", "How far its work is, 0 to 1.", lambda d: d.progress),
    _Row("midge_device_examples_per_second", "How fast it trains.", lambda d: d.examples_per_s),
    _Row("midge_device_memory_bytes", "Memory of agent and trainer.", lambda d: d.memory_bytes),
    _Row("midge_device_temperature_celsius", "The processor's temperature.", lambda d: d.temperature_c),
    _Row("midge_device_battery_ratio", "Charge left, 0 to 1.", lambda d: d.battery),
    _Row("midge_device_loss", "Loss of its last training.", lambda d: d.loss),
    _Row("midge_device_reliability_ratio", "Its part of the updates asked for.", lambda d: d.reliability),
    _Row("midge_device_heard_timestamp_seconds", "When it was heard last.", lambda d: d.heard_at_unix_s),
)


def _gauge(name: str, what: str, value: Value) -> Metric:
    family = GaugeMetricFamily(name, what)
    if value is not None:
        family.add_metric([], value)
    return family


def _of(
    document: FederationDocument | RunDocument | RoundDocument | None, rows: Iterable[_Row]
) -> Iterator[Metric]:
    for name, what, value in rows:
        yield _gauge(name, what, None if document is None else value(document))


def _by(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _labelled(name: str, what: str, labels: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    return family


def _states(name: str, what: str, label: str, states: Iterable[str], current: str | None) -> Metric:
    return _by(name, what, label, {state: float(state == current) for state in states})


def _phase(newest: Newest) -> str | None:
    return None if newest.federation is None else newest.federation.phase


def _device_states(newest: Newest) -> dict[str, float]:
    states = {} if newest.federation is None else newest.federation.states
    return {state: float(states.get(state, 0)) for state in _STATES}


def _run_info(run: RunDocument | None) -> Metric:
    family = GaugeMetricFamily("midge_run_info", "The newest run.", labels=["run", "task", "state"])
    if run is not None:
        family.add_metric([run.run, run.task, run.state], 1.0)
    return family


def _counter(name: str, what: str, values: Mapping[str, float], label: str | None = None) -> Metric:
    family = CounterMetricFamily(name, what, labels=[] if label is None else [label])
    for word, value in values.items():
        family.add_metric([] if label is None else [word], value)
    return family


def _counters(newest: Newest) -> Iterator[Metric]:
    dropped = 0 if newest.federation is None else newest.federation.messages_dropped
    yield _counter("midge_rounds", "Closed rounds by outcome.", newest.rounds, "outcome")
    yield _counter("midge_updates", "Offered updates by the answer.", newest.updates, "outcome")
    yield _counter("midge_updates_rejected", "Rejected updates by reason.", newest.rejected, "reason")
    yield _counter("midge_events", "Events that were told, by kind.", newest.events, "kind")
    yield _counter("midge_update_bytes", "Bytes of accepted updates.", {"": newest.bytes_up})
    yield _counter("midge_blob_bytes", "Blob bytes that participants fetched.", {"": newest.bytes_down})
    yield _counter("midge_messages_dropped", "Undecodable or unwanted messages.", {"": dropped})
