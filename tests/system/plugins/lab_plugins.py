"""What a user might install beside midge: here, what the system tests need."""

import os
import time

from aggregator.strategies.fedavg import FedAvg
from broker.layout import Theta


class Slow(FedAvg):
    """FedAvg that takes its time."""

    def finish(self) -> Theta:
        time.sleep(float(os.environ.get("LAB_STRATEGY_S", "0")))
        return super().finish()
