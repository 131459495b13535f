"""What the simulated aggregator says on the broker, as `aggregator.post` does for the real one."""

import math
from collections.abc import Callable

from aggregator.coordinator.effects import Announce
from broker import topics as tree
from broker.messages import Announcement, Federation, Invite, Message
from broker.topics import Topics
from deploy.simulator.judge import Judge
from deploy.simulator.session import SimulatedSession


class SimulatedPost:
    """Publishes under one session number; the judge sees whom it asks to train."""

    def __init__(
        self,
        session: SimulatedSession,
        topics: Topics,
        number: int,
        heartbeat_s: float,
        judge: Judge,
        trace: Callable[[str, object], None],
    ) -> None:
        self._session = session
        self._topics = topics
        self._number = number
        self._heartbeat_s = heartbeat_s
        self._judge = judge
        self._trace = trace
        self._sequence = 0

    def introduce(self) -> None:
        """Say who aggregates."""
        federation = Federation(
            session=self._number, version="0", heartbeat_s=self._heartbeat_s, aggregator_key="0" * 64
        )
        self._session.publish(self._topics.topic(tree.FEDERATION), federation, retain=True)

    def announce(self, effect: Announce) -> None:
        """Publish what devices should do now."""
        asked = effect.assignment
        if asked is not None and asked.cohort is not None:
            self._judge.invites(asked.run, asked.round, asked.cohort)
        self._sequence += 1
        message = Announcement(session=self._number, sequence=self._sequence, assignment=asked)
        expiry_s = None if effect.expiry_s is None else max(1, math.ceil(effect.expiry_s))
        self._session.publish(self._topics.topic(tree.ROUND), message, retain=True, expiry_s=expiry_s)

    def to_device(self, device: str, message: Message) -> None:
        """Put a message into a device's inbox."""
        self._trace("to", (device, message))
        if isinstance(message, Invite):
            self._judge.invites(message.run, message.round, (device,))
        self._session.publish(self._topics.topic(tree.INBOX, device=device), message)
