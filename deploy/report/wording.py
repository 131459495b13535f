"""Numbers, sizes and times as people read them."""

from datetime import UTC, datetime

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
NOTHING = "–"


def value(number: float | None) -> str:
    """A metric's value, to four digits."""
    return NOTHING if number is None else f"{number:.4g}"


def count(number: float) -> str:
    """A whole number, its thousands apart."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(number: float) -> str:
    """Bytes in the unit that fits."""
    for unit, scale in _UNITS:
        if number >= scale:
            return f"{number / scale:.3g} {unit}" if number < 1000 * scale else f"{number / scale:,.0f} {unit}"
    return f"{number:.0f} bytes"


def duration(seconds: float | None) -> str:
    """Seconds, minutes, hours or days; two units where there are more."""
    if seconds is None:
        return NOTHING
    if seconds < _MINUTE_S:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def moment(unix_s: float | None) -> str:
    """A date and time of day, in UTC."""
    return NOTHING if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def part(share: float | None) -> str:
    """A share of one, in percent."""
    return NOTHING if share is None else f"{share:.1%}".replace("%", "\N{NO-BREAK SPACE}%")
