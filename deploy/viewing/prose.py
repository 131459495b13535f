"""How pages spell figures, where there is room for words; `words` has what they share with terminals."""

from datetime import UTC, datetime
from math import isfinite

from deploy.viewing.words import DAY_S, HOUR_S, MINUTE_S, TENTHS_BELOW

NOTHING = "\N{EN DASH}"
_LARGE = 1000
_FIXED = (0.001, 100)
_FEW = 0.01


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.04 s, 4.2 s, 41 s, 3 min 20 s, 5 h 10 min, 2 d 3 h."""
    if seconds is None or not isfinite(seconds):
        return NOTHING
    if seconds < 1:
        return f"{max(0.0, seconds):.2g} s"
    if seconds < TENTHS_BELOW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, below, below_name in (
        (DAY_S, "d", HOUR_S, "h"),
        (HOUR_S, "h", MINUTE_S, "min"),
        (MINUTE_S, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def number(value: float) -> str:
    """Four digits that count, or all of a large whole."""
    return count(value) if isinstance(value, int) or abs(value) >= _LARGE else f"{value:.4g}"


def value(number: float | None) -> str:
    """A metric's value: to four places, or four digits, so that values below each other compare."""
    if number is None:
        return NOTHING
    return f"{number:.4f}" if number == 0 or _FIXED[0] <= abs(number) < _FIXED[1] else f"{number:.4g}"


def count(number: float) -> str:
    """A whole number, its thousands apart."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def part(share: float | None) -> str:
    """A share of one, in percent, to a tenth or finer."""
    if share is None:
        return NOTHING
    return f"{share:.2%}" if 0 < share < _FEW else f"{share:.1%}"


def utc(unix_s: float | None) -> str:
    """A date and time of day, for who reads it elsewhere."""
    return NOTHING if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
