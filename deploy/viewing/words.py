"""How figures are spelled: in a terminal short and of a width that does not jump; pages share most of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite

from broker.names import is_of_whole

NONE = "-"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
BARS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"
UNITS = ("B", "kB", "MB", "GB", "TB")
STEP = 1000.0
TENTHS_BELOW = 10.0
TEN_THOUSAND = 10_000.0


def duration(seconds: float | None) -> str:
    """Seconds in at most two units: `42s`, `3m07s`, `2h15m`, `4d03h`."""
    if seconds is None or not isfinite(seconds):
        return NONE
    whole_s = max(0, round(seconds))
    if whole_s < MINUTE_S:
        return f"{whole_s}s"
    if whole_s < HOUR_S:
        return f"{whole_s // MINUTE_S}m{whole_s % MINUTE_S:02}s"
    if whole_s < DAY_S:
        return f"{whole_s // HOUR_S}h{whole_s % HOUR_S // MINUTE_S:02}m"
    return f"{whole_s // DAY_S}d{whole_s % DAY_S // HOUR_S:02}h"


def size(count: float) -> str:
    """Bytes with a decimal unit: `713 kB`."""
    unit, scale = unit_of(count)
    value = count / scale
    return f"{value:.1f} {unit}" if scale > 1 and value < TENTHS_BELOW else f"{value:.0f} {unit}"


def unit_of(count: float) -> tuple[str, float]:
    """The unit that so many bytes are spelled in, and how many bytes it has."""
    unit, scale = UNITS[0], 1.0
    for larger in UNITS[1:]:
        if round(count / scale) < STEP:
            break
        unit, scale = larger, scale * STEP
    return unit, scale


def percent(part: float | None) -> str:
    """A part of one: `87 %`."""
    return NONE if part is None else f"{100 * part:.0f} %"


def rate(per_s: float | None) -> str:
    """Examples a second: `8.5/s`, `840/s`, `32k/s`."""
    if not per_s:
        return NONE
    if per_s >= TEN_THOUSAND:
        return f"{per_s / STEP:.0f}k/s"
    return f"{per_s:.1f}/s" if per_s < TENTHS_BELOW else f"{per_s:.0f}/s"


def degrees(celsius: float | None) -> str:
    """A temperature."""
    return NONE if celsius is None else f"{celsius:.0f}°C"


def clock(unix_s: float) -> str:
    """The time of day here."""
    return _here(unix_s, "%H:%M:%S")


def moment(unix_s: float) -> str:
    """The day and the time here."""
    return _here(unix_s, "%Y-%m-%d %H:%M:%S")


def _here(unix_s: float, form: str) -> str:
    try:
        return f"{datetime.fromtimestamp(unix_s).astimezone():{form}}"
    except (ValueError, OverflowError, OSError):
        # No calendar has that day.
        return NONE


def whole(means: Mapping[str, float]) -> dict[str, float]:
    """Metrics of all of the data, without those of its parts, for which there is no room."""
    return {name: value for name, value in means.items() if is_of_whole(name)}


def metrics(means: Mapping[str, float]) -> str:
    """Metrics of all of the data on a line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(whole(means).items()))


def bar(part: float, width: int) -> str:
    """A bar of `width` characters that fills by eighths of one."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars between the least and the largest of them."""
    shown = [value for value in values if isfinite(value)][-width:]
    top = len(BARS) - 1
    return "".join(BARS[round(height * top)] for height in heights(shown, level=0.0))


def heights(values: Sequence[float], level: float = 0.5) -> list[float]:
    """Finite values from 0, the least of them, to 1; at `level` where all are the same."""
    if not values:
        return []
    # Halved, since the difference of two finite numbers need not be one.
    least, spread = min(values) / 2, max(values) / 2 - min(values) / 2
    if spread == 0:
        return [level] * len(values)
    return [(value / 2 - least) / spread for value in values]
