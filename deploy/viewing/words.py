"""How figures are spelled in a terminal: short, of a width that does not jump, without colour."""

from collections.abc import Mapping, Sequence
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
    whole = max(0, round(seconds))
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m{whole % MINUTE_S:02}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h{whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d{whole % DAY_S // HOUR_S:02}h"


def size(count: float) -> str:
    """Bytes with a decimal unit: `713 kB`."""
    value, unit = float(count), UNITS[0]
    for larger in UNITS[1:]:
        if round(value) < STEP:
            break
        value, unit = value / STEP, larger
    return f"{value:.1f} {unit}" if unit != "B" and value < TENTHS_BELOW else f"{value:.0f} {unit}"


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


def metrics(means: Mapping[str, float]) -> str:
    """Metrics of the whole data, not of parts of it, which would not fit on a line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(means.items()) if is_of_whole(name))


def bar(part: float, width: int) -> str:
    """A bar of `width` characters that fills by eighths of one."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars between the least and the largest of them."""
    shown = [value for value in values if isfinite(value)][-width:]
    if not shown:
        return ""
    least, most = min(shown), max(shown)
    # Halved, since the difference of two finite numbers need not be one.
    spread = most / 2 - least / 2
    if spread == 0:
        return BARS[0] * len(shown)
    top = len(BARS) - 1
    return "".join(BARS[round((value / 2 - least / 2) / spread * top)] for value in shown)
