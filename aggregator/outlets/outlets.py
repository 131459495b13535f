"""All that leaves for other systems, in one object; what is not set costs nothing."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from aggregator.kept import Kept
from aggregator.outlets.care import Care
from aggregator.outlets.figures import Figures
from aggregator.outlets.home_assistant import HomeAssistant
from aggregator.outlets.webhook import Target, Webhook
from aggregator.post import Post
from aggregator.records import DeviceExcluded, Record
from aggregator.settings import AggregatorSettings
from aggregator.watch.guard import Guard
from aggregator.watch.watch import Watch
from broker.events import Received
from broker.happenings import EventDocument
from broker.monitor import Document
from broker.session import Session

log = logging.getLogger(__name__)


class Outlets:
    """Sees what the watch says and what the ledger notes; for the loop's thread."""

    def __init__(self, kept: Kept, session: Session, post: Post, watch: Watch, version: str) -> None:
        settings = self._settings = kept.settings
        self._version = version
        self._session = session
        self._watch = watch
        self._guard = Guard()
        discovery = settings.discovery
        self._home = HomeAssistant(
            discovery,
            settings.folder,
            lambda topic, payload: post.document(topic, payload, branch="Home Assistant's topics"),
            version,
            post.beat_s,
            kept.ledger.excluded(),
            discreet=settings.seals,
        )
        self._figures = Figures() if settings.metrics_listen is not None else None
        self._care = (
            Care(settings.broker.federation, settings.webhook_lost_s, lambda: secrets.token_hex(8))
            if settings.webhook_url is not None
            else None
        )
        self._webhook: Webhook | None = None
        self._close_metrics: Callable[[], None] = lambda: None
        watch.observers.append(self._see)

    def start(self) -> None:
        """Listen, and be ready to call; raises ConfigError for a secret that cannot be read."""
        settings = self._settings
        if self._figures is not None:
            self._close_metrics = _serve(self._figures, settings, self._version)
        if settings.webhook_url is not None:
            self._webhook = Webhook(Target.of(settings), self._version)

    def close(self) -> None:
        """Have the last notices sent, shortly, and listen no more."""
        self._call(time.monotonic(), last=True)
        if self._webhook is not None:
            self._webhook.close()
        self._close_metrics()

    # -- what there is to tell -------------------------------------------------------------------

    def note(self, noted: Sequence[Record]) -> None:
        """These records stand in the ledger, or tell of what did not change it: for the watch, too."""
        self._watch.note(noted)
        for record in noted:
            self._guard.run("an outlet", partial(self._note, record))

    def _note(self, record: Record) -> None:
        if self._figures is not None:
            self._figures.note(record)
        if self._care is not None:
            self._care.note(record, time.time())
        if isinstance(record, DeviceExcluded):
            self._home.forget(record.device)

    def _see(self, _topic: str, document: Document | EventDocument) -> None:
        self._home.see(document)
        if self._figures is not None:
            self._figures.see(document)
        if self._care is not None:
            self._care.see(document, time.monotonic())

    # -- when ------------------------------------------------------------------------------------

    def connected(self) -> None:
        """The broker may have lost what was said, and does not know yet what is to be heard."""
        self._session.subscribe(self._home.subscriptions)
        self._home.connected()

    def heard(self, message: Received) -> None:
        """A message, perhaps of Home Assistant."""
        self._home.heard(message.topic, message.payload, time.monotonic(), retained=message.retained)

    def look(self, now: float) -> None:
        """The watch has looked: tell what there is."""
        self._guard.run("what Home Assistant is told", partial(self._home.pump, now))
        self._guard.run("the webhook", partial(self._call, now))

    def _call(self, now: float, *, last: bool = False) -> None:
        if self._care is None or self._webhook is None:
            return
        for notice in self._care.look(now, time.time(), last=last):
            self._webhook.send(notice)


def _serve(figures: Figures, settings: AggregatorSettings, version: str) -> Callable[[], None]:
    """Serve the figures; rounds are worth more than these, so that a port in use ends nothing."""
    # Who is not scraped needs no prometheus-client.
    from aggregator.outlets.exposition import Exposition, MetricsServer  # noqa: PLC0415

    host, port = settings.metrics_address
    exposition = Exposition(figures, version, settings.broker.federation, settings.metrics_devices)
    try:
        server = MetricsServer(exposition, host, port)
    except OSError as error:
        log.error("metrics_listen = %s: %s; there are no metrics", settings.metrics_listen, error.strerror)  # noqa: TRY400 - no bug of ours
        return lambda: None
    log.info("Prometheus reads http://%s/metrics", settings.metrics_listen)
    return server.close
