"""Conditions under which a comparison fails, for continuous integration."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import BadInput, unknown
from harness.metrics import METRICS

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FUNCTIONS = ("ratio", "difference", "value", "baseline")
SHAPE = re.compile(r"\s*(\w+)\s*\(\s*(\w+)\s*\)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """What must not be so.

    Attributes:
        function: of ``FUNCTIONS``.
        metric: a name in ``METRICS``, in its own unit.
        operator: of ``OPERATORS``.
        bound: the number compared with.
    """

    function: str
    metric: str
    operator: str
    bound: float

    def holds(self, number: float) -> bool:
        """Tell whether a number is what it must not be."""
        return OPERATORS[self.operator](number, self.bound)

    def __str__(self) -> str:
        """Return the condition as it is written."""
        return f"{self.function}({self.metric}) {self.operator} {self.bound:g}"


def parse(text: str) -> Condition:
    """Read a condition such as ``ratio(peak_counted_bytes) > 1.02``.

    Raises:
        BadInput: it is none, or names a function or metric that is not there.
    """
    found = SHAPE.fullmatch(text)
    if found is None:
        raise BadInput(
            f"{text!r}: expected FUNCTION(METRIC) OPERATOR NUMBER, as in "
            f"'ratio(peak_counted_bytes) > 1.02'; functions: {', '.join(FUNCTIONS)}; operators: "
            f"{', '.join(OPERATORS)}"
        )
    function, metric, sign, bound = found.groups()
    if function not in FUNCTIONS:
        raise unknown("function", function, FUNCTIONS)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    try:
        return Condition(function, metric, sign, float(bound))
    except ValueError:
        raise BadInput(f"{text!r}: {bound!r} is no number") from None
