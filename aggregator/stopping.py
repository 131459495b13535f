"""When a run is good enough: a metric with its bound, such as `accuracy >= 0.97`."""

import math
import re
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal, cast

from broker.monitor import means
from broker.names import Metrics

MAX_RULE = 100
# With the rest of the sentence it fits a ShortText.
MAX_SHOWN = 160
_RULE = re.compile(r"(?P<metric>[^<>=\s][^<>=]{0,63}?) *(?P<sign>>=|<=) *(?P<bound>[-+.\w]+)")


@dataclass(frozen=True, slots=True)
class StopRule:
    """Fulfilled by metrics in which `metric` reaches `bound` from the side that `sign` says."""

    metric: str
    sign: Literal[">=", "<="]
    bound: float

    @classmethod
    def parse(cls, text: str) -> "StopRule":
        """Read `METRIC >= NUMBER` or `METRIC <= NUMBER`; raises ValueError."""
        found = _RULE.fullmatch(text.strip())
        bound = _number(found["bound"]) if found else None
        if found is None or bound is None:
            raise ValueError("metric, >= or <=, and number are needed, as in 'accuracy >= 0.97'")
        return cls(found["metric"], cast("Literal['>=', '<=']", found["sign"]), bound)

    def fulfilled(self, metrics: Metrics | None) -> bool:
        """Whether the mean of the metric reaches the bound; what was not measured does not."""
        value = means(metrics).get(self.metric)
        if value is None:
            return False
        return value >= self.bound if self.sign == ">=" else value <= self.bound

    def complaint(self, metrics: Metrics | None) -> str:
        """What to tell people of an evaluation without the metric; empty when there is nothing to tell."""
        measured = means(metrics)
        if not measured or self.metric in measured:
            return ""
        names = shorten(", ".join(f"'{name}'" for name in sorted(measured)), MAX_SHOWN)
        return f"stop_when: the evaluation has no '{self.metric}', only {names}"

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {str(self.bound).removesuffix('.0')}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
