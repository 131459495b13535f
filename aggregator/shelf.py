"""The blobs that the broker carries: those that the ledger lists, and no others."""

from collections.abc import Callable
from functools import partial

from aggregator.blobstore import BlobStore
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.ledger import Ledger
from aggregator.publisher import Publisher
from broker.messages import BlobRef
from host.errors import StorageError


class Shelf:
    """Puts blobs onto the broker and takes them off; the list survives us, so that all is found again."""

    def __init__(
        self, ledger: Ledger, blobs: BlobStore, publisher: Publisher, tell: Callable[[on.Event], None]
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._publisher = publisher
        self._tell = tell

    def publish(self, effect: do.PublishBlobs) -> None:
        """Say `BlobsPublished` when the broker took all of them."""
        try:
            paths = [self._blobs.path(ref) for ref in effect.blobs]
        except StorageError as error:
            self._tell(on.ModelDamaged(str(error), None))
            return
        missing = set(effect.blobs)

        def put(ref: BlobRef) -> None:
            missing.remove(ref)
            if not missing:
                self._tell(on.BlobsPublished(effect.blobs))

        for ref, path in zip(effect.blobs, paths, strict=True):
            self._ledger.want_blob(ref)
            self._publisher.put(path, ref, partial(put, ref))

    def retract(self, effect: do.RetractBlobs) -> None:
        """Take off all but those to keep."""
        for ref in self._ledger.wanted_blobs():
            if ref not in effect.keep:
                self._ledger.drop_blob(ref)
                self._publisher.clear(ref)
                self._blobs.remove(ref)

    def clear_dropped(self) -> None:
        """A broker that was killed comes back with what it had saved: blobs of earlier rounds among it."""
        for ref in self._ledger.dropped_blobs():
            self._publisher.clear(ref)
