"""When a run is good enough: a metric with its bound, such as `accuracy >= 0.97`."""

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from broker.monitor import means
from broker.names import Metrics

MAX_RULE = 100
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

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {str(self.bound).removesuffix('.0')}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
