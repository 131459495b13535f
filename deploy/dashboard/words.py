"""How the pages spell numbers and times."""

from datetime import datetime

from broker.monitor import Means
from broker.names import is_of_whole

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_FINE_S = 10
_LARGE = 1000


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 41 s, 3 min 20 s, 5 h 10 min, 2 d 3 h."""
    if seconds < _FINE_S:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for unit, name, below, below_name in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def number(value: float) -> str:
    """Four digits that count, or all of a large whole."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= _LARGE else f"{value:.4g}"


def percent(share: float) -> str:
    """A share of 1."""
    return f"{100 * share:.0f} %"


def clock(unix_s: float) -> str:
    """The time of day here."""
    return f"{datetime.fromtimestamp(unix_s).astimezone():%H:%M:%S}"


def moment(unix_s: float) -> str:
    """The day and the time here."""
    return f"{datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M}"


def whole(metrics: Means) -> Means:
    """Metrics of all of the held-out data, without those of its parts."""
    return {name: value for name, value in metrics.items() if is_of_whole(name)}
