"""How time was spent in a round, as lanes of spans: a Gantt picture, and its facts in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.monitor import ParticipantDocument, RoundDocument
from deploy.viewing.prose import duration
from deploy.viewing.steps import stretches
from deploy.viewing.words import MINUTE_S

MAX_LANES = 40
MAX_TICKS = 6
# Nearer to the end there is no room for a label.
LABELLED = 0.95
# What a step's state is called as an occupation; what is not here keeps its name.
DOING = {
    "idle": "waited",
    "fetching": "fetched",
    "training": "trained",
    "uploading": "uploaded",
    "evaluating": "evaluated",
    "reported": "done",
    "lost": "lost",
    "displaced": "displaced",
}
PHASES = ("preparing", "waiting", "training", "aggregating", "evaluating")


@dataclass(frozen=True)
class Span:
    """Something that a lane's owner did; start and width in percent of the picture."""

    doing: str
    kind: str
    start: float
    width: float
    seconds: float


@dataclass(frozen=True)
class Lane:
    """One row."""

    name: str
    href: str | None
    status: str
    spans: tuple[Span, ...]

    @property
    def facts(self) -> str:
        """The same in words."""
        return ", ".join(f"{span.doing} {duration(span.seconds)}" for span in self.spans) or "nothing known"


@dataclass(frozen=True)
class Chart:
    """Lanes over one axis of time."""

    seconds: float
    lanes: tuple[Lane, ...]
    more: int
    ticks: tuple[tuple[float, str], ...]
    kinds: tuple[str, ...]


def round_chart(document: RoundDocument, elapsed_s: float = 0.0) -> Chart:
    """Who did what in a round, who is awaited first, then who came last; `elapsed_s` since it was written."""
    is_open = document.outcome is None
    seconds = _length(document, elapsed_s if is_open else 0.0)
    parts = sorted(document.participants.items(), key=_urgency)
    lanes = [
        Lane(name, f"/device/{name}", part.status, _spans(part, seconds, seconds))
        for name, part in parts[:MAX_LANES]
    ]
    phases = _phases(document, seconds)
    if phases:
        lanes.insert(0, Lane("round", None, document.outcome or document.phase, phases))
    return _chart(seconds, lanes, max(0, len(parts) - MAX_LANES))


def device_chart(rounds: Sequence[RoundDocument], device: str) -> Chart:
    """What one device did in each of these rounds, newest first."""
    parts = [(one, one.participants[device]) for one in reversed(rounds) if device in one.participants]
    longest = max((_length(one, 0.0) for one, _ in parts), default=1.0)
    lanes = [
        Lane(f"round {one.round}", None, part.status, _spans(part, _length(one, 0.0), longest))
        for one, part in parts[:MAX_LANES]
    ]
    return _chart(longest, lanes, max(0, len(parts) - MAX_LANES))


def _chart(seconds: float, lanes: Sequence[Lane], more: int) -> Chart:
    kinds = dict.fromkeys(
        span.kind for lane in lanes if lane.href or lane.name != "round" for span in lane.spans
    )
    ordered = tuple(kind for kind in DOING if kind in kinds)
    return Chart(seconds, tuple(lanes), more, _ticks(seconds), ordered)


def _spans(part: ParticipantDocument, end_s: float, axis_s: float) -> tuple[Span, ...]:
    steps = ((step.state, step.at_s) for step in part.steps)
    return tuple(
        _span(DOING.get(one.state, one.state), one.state, one.begin_s, one.seconds, axis_s)
        for one in stretches(steps, end_s)
    )


def _phases(document: RoundDocument, seconds: float) -> tuple[Span, ...]:
    at, spans = 0.0, []
    durations = document.durations_s
    for phase in (*(one for one in PHASES if one in durations), *(set(durations) - set(PHASES))):
        until = min(seconds, at + durations[phase])
        spans.append(_span(phase, f"phase-{phase}", at, until - at, seconds))
        at = until
    if document.outcome is None and document.phase in PHASES and at < seconds:
        spans.append(_span(document.phase, f"phase-{document.phase}", at, seconds - at, seconds))
    return tuple(span for span in spans if span.seconds > 0)


def _span(doing: str, kind: str, start_s: float, length_s: float, axis_s: float) -> Span:
    return Span(doing, kind, round(100 * start_s / axis_s, 2), round(100 * length_s / axis_s, 2), length_s)


def _length(document: RoundDocument, elapsed_s: float) -> float:
    """How long a round took, as far as its document knows; never zero."""
    known = document.seconds + elapsed_s if document.seconds else 0.0
    return max(known, *(_last(part) for part in document.participants.values()), 0.1)


def _urgency(item: tuple[str, ParticipantDocument]) -> tuple[bool, float, str]:
    name, part = item
    return part.status == "accepted", -_last(part), name


def _last(part: ParticipantDocument) -> float:
    return max((step.at_s for step in part.steps), default=0.0)


def _ticks(seconds: float) -> tuple[tuple[float, str], ...]:
    """Round numbers of seconds, in percent of the picture, with their labels."""
    step = next(
        (
            unit * 10**power
            for power in range(-2, 7)
            for unit in (1, 2, 5)
            if seconds / (unit * 10**power) <= MAX_TICKS
        ),
        seconds,
    )
    times = [index * step for index in range(int(seconds / step) + 1) if index * step <= LABELLED * seconds]
    return tuple(
        (round(100 * at / seconds, 2), duration(at) if at >= MINUTE_S else f"{at:g} s") for at in times
    )
