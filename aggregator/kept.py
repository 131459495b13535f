"""What an aggregator keeps from process to process: its ledger, its key, and the run that is in them."""

from dataclasses import dataclass

from pydantic import ValidationError

from aggregator.coordinator.core import Coordinator
from aggregator.ledger import Ledger
from aggregator.settings import AggregatorSettings
from broker.sealing import SealingKey
from broker.signing import Signer
from host.errors import ConfigError


@dataclass(frozen=True)
class Kept:
    """Found in the aggregator's folder, or made there."""

    settings: AggregatorSettings
    ledger: Ledger
    signer: Signer
    sealing: SealingKey | None = None
    """Opens what devices sealed; there is one where they are to seal, or once were."""

    def coordinator(self, now: float) -> Coordinator:
        """The coordinator as the last process left it; raises ConfigError when another version did."""
        snapshot, heartbeat_s = self.ledger.snapshot(), self.settings.heartbeat_s
        if snapshot is None:
            return Coordinator(heartbeat_s, now)
        try:
            return Coordinator.restore(snapshot, heartbeat_s, now)
        except ValidationError:
            raise ConfigError(
                f"the ledger in {self.settings.folder} holds a run that another version of midge saved: "
                "install that version and stop the run there, or choose another folder"
            ) from None
