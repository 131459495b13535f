"""Numbers, sizes and times as people read them."""

from datetime import UTC, datetime

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
NOTHING = "\N{EN DASH}"
_SMALL, _LARGE = 0.001, 100
_TOO_MANY = 1000
_FEW = 0.01


def value(number: float | None) -> str:
    """A metric's value: to four digits, or four places, so that values below each other compare."""
    if number is None:
        return NOTHING
    return f"{number:.4f}" if number == 0 or _SMALL <= abs(number) < _LARGE else f"{number:.4g}"


def count(number: float) -> str:
    """A whole number, its thousands apart."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(number: float) -> str:
    """Bytes in the unit that fits."""
    for unit, scale in _UNITS:
        if number >= scale:
            scaled = number / scale
            return _kept(f"{scaled:.3g} {unit}" if scaled < _TOO_MANY else f"{count(scaled)} {unit}")
    return _kept(f"{number:.0f} bytes")


def duration(seconds: float | None) -> str:
    """Seconds, minutes, hours or days; two units where there are more."""
    if seconds is None:
        return NOTHING
    if seconds < _MINUTE_S:
        return _kept(f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s")
    whole = round(seconds)
    if whole < _HOUR_S:
        return _kept(f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s")
    if whole < _DAY_S:
        return _kept(f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min")
    return _kept(f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h")


def moment(unix_s: float | None) -> str:
    """A date and time of day, in UTC."""
    return NOTHING if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def part(share: float | None) -> str:
    """A share of one, in percent."""
    if share is None:
        return NOTHING
    return f"{share:.2%}" if 0 < share < _FEW else f"{share:.1%}"


def _kept(words: str) -> str:
    """Keep a number and its unit on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")
