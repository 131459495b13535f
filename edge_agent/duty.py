"""What the announced round asks of this device."""

from broker.messages import AgentState, Announcement, Assignment, AssignmentPhase
from edge_agent.snapshot import RoundKey, Snapshot
from edge_agent.transitions import FETCHING, TRAINING

# The snapshot's field that says which round of this phase is behind us.
SETTLED = {AssignmentPhase.TRAINING: "trained", AssignmentPhase.EVALUATING: "evaluated"}


def key_of(assignment: Assignment) -> RoundKey:
    """Which round an assignment belongs to."""
    return RoundKey(assignment.run, assignment.round)


class Duty:
    """The newest announcement, and what was said to us about its round."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.order: tuple[int, int] | None = None
        """Session and sequence of the newest announcement since we started."""
        self.announced: Assignment | None = None
        self.invited: RoundKey | None = None
        self.declined: tuple[RoundKey, AssignmentPhase] | None = None
        """Whose training failed may still evaluate: both are waited for."""

    @property
    def key(self) -> RoundKey | None:
        """The announced round."""
        return key_of(self.announced) if self.announced else None

    def is_news(self, announcement: Announcement, kept: Snapshot) -> bool:
        """Whether it is newer than all we have heard; after a restart, the newest one may be said again."""
        order = (announcement.session, announcement.sequence)
        return order >= (kept.session, kept.sequence) if self.order is None else order > self.order

    def heard(self, announcement: Announcement) -> None:
        """Take a newer announcement for the current one."""
        self.order = (announcement.session, announcement.sequence)
        self.announced = announcement.assignment

    def asked(self, kept: Snapshot) -> Assignment | None:
        """The assignment that is ours to begin now, if there is one."""
        asked = self.announced
        if asked is None or asked.phase not in SETTLED:
            return None
        key = key_of(asked)
        if key == getattr(kept, SETTLED[asked.phase]) or self.declined == (key, asked.phase):
            return None
        ours = asked.cohort is None or self._device in asked.cohort or self.invited == key
        return asked if ours else None

    def still_wants(self, work: Assignment, state: AgentState) -> bool:
        """Whether work in hand is worth going on with; a pause lets what runs come to its end.

        A training whose update may come late is, until the round after the next.
        """
        asked = self.announced
        if work.carries and state is TRAINING and (asked is None or asked.run == work.run):
            return asked is None or asked.round <= work.round + 1
        if asked is None or key_of(asked) != key_of(work):
            return False
        if asked.phase is AssignmentPhase.PAUSED:
            return state is not FETCHING
        return (asked.phase, asked.theta, asked.program) == (work.phase, work.theta, work.program)
