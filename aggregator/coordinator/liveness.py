"""How long a device may be silent before it counts as lost: learnt from the rhythm of its own heartbeats.

Mean and mean deviation of the gaps between arrivals are smoothed as TCP smooths round-trip times (RFC 6298,
https://www.rfc-editor.org/rfc/rfc6298). Bertier, Marin and Sens use that margin for heartbeats
("Implementation and performance evaluation of an adaptable failure detector", DSN 2002). Heartbeats travel at
QoS 0, so one of them may get lost without harm: the next has to be late as well. All times are in heartbeats
of the federation.
"""

from dataclasses import dataclass

GAIN = 1 / 8
DEVIATIONS = 4.0
FORGIVEN_LOSSES = 1
# Until so many gaps were measured, the usual patience holds.
LEARNT = 8
SHORTEST, USUAL, LONGEST = 2.5, 3.0, 6.0


@dataclass(slots=True)
class Rhythm:
    """The gaps between the heartbeats of one device; `patience` is the silence after which it is lost."""

    gaps: int = 0
    mean: float = 1.0
    deviation: float = 0.5
    patience: float = USUAL

    def heard(self, gap: float) -> None:
        """Learn from one more gap; one that is longer than any patience teaches no more than that."""
        gap = min(gap, LONGEST)
        self.deviation += GAIN * (abs(gap - self.mean) - self.deviation)
        self.mean += GAIN * (gap - self.mean)
        self.gaps = min(self.gaps + 1, LEARNT)
        if self.gaps == LEARNT:
            wanted = (1 + FORGIVEN_LOSSES) * self.mean + DEVIATIONS * self.deviation
            self.patience = min(max(wanted, SHORTEST), LONGEST)
