"""Hours of the day, such as 22:00-06:00, by the device's own clock and time zone."""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

PATTERN = r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$"


class TimeOfDay(NamedTuple):
    """A time that a clock shows."""

    hour: int
    minute: int


def _not_empty(span: str) -> str:
    begin, _, end = span.partition("-")
    if begin == end:
        raise ValueError(f"{span} begins when it ends; 00:00-24:00 is the whole day")
    return span


Span = Annotated[str, Field(pattern=PATTERN), AfterValidator(_not_empty)]


def is_within(span: str, time: TimeOfDay) -> bool:
    """Whether the time is in the span, which may reach past midnight; its end is no part of it."""
    hours = [int(number) for number in re.split("[:-]", span)]
    begin, end = TimeOfDay(*hours[:2]), TimeOfDay(*hours[2:])
    return begin <= time < end if begin < end else time >= begin or time < end
