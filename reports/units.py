"""The display units; only this file scales and rounds numbers for readers."""

import math
from dataclasses import dataclass, replace

from bsrbench.harness.records.metric import UnitName
from bsrbench.harness.records.metrics import METRICS

KIBI = 2**10
MEBI = 2**20
GIGA = 1e9
MEGA = 1e6
MILLI = 1e-3
NOTHING = "–"
ROUNDING = 1e-9  # percent: rounding error of the distance to the end of an interval


@dataclass(frozen=True)
class DisplayUnit:
    """A unit in which numbers are printed; a call with a number or ``None`` returns the text.

    Attributes:
        name: the unit as headings print it.
        scale: the number by which values are divided.
        digits: digits after the decimal point.
        before: text directly before the number.
        behind: text directly after the number.
        signed: whether positive numbers get a plus sign.
    """

    name: str
    scale: float = 1.0
    digits: int = 1
    before: str = ""
    behind: str = ""
    signed: bool = False

    def __call__(self, value: float | None) -> str:
        """Return a number scaled and rounded; a dash for ``None``."""
        if value is None:
            return NOTHING
        sign = "+" if self.signed else "-"
        return f"{self.before}{value / self.scale:{sign},.{self.digits}f}{self.behind}"


mebibytes = DisplayUnit("MiB", MEBI)
gigaflop = DisplayUnit("GFLOP", GIGA, 2)  # 2 FLOP per multiply-add
gigamacs = DisplayUnit("GMAC", GIGA, 2)
milliseconds = DisplayUnit("ms", MILLI, 0)
seconds = DisplayUnit("s")
millions = DisplayUnit("M", MEGA, 3)
rate = DisplayUnit("1/s")
joules = DisplayUnit("J")
count = DisplayUnit("", digits=0)
share = DisplayUnit("", digits=3)
ratio = DisplayUnit("×", digits=2, behind="×")
plain = DisplayUnit("", digits=2)  # an end of the interval of a ratio
percent = DisplayUnit("%", 1e-2, 2, behind=" %", signed=True)
margin = DisplayUnit("%", 1e-2, 1, behind=" %")  # a small share in a sentence
part = DisplayUnit("%", 1e-2, 0, behind=" %")  # a share in a sentence


BY_NAME: dict[UnitName, DisplayUnit] = {
    "mebibytes": mebibytes,
    "gigaflop": gigaflop,
    "gigamacs": gigamacs,
    "milliseconds": milliseconds,
    "seconds": seconds,
    "millions": millions,
    "rate": rate,
    "joules": joules,
    "count": count,
    "share": share,
    "plain": plain,
    "percent": percent,
}
# The suffix of a metric's name, by the unit in which the metric is stored.
ENDINGS = {"B": "_bytes", "FLOP": "_flop", "MAC": "_macs", "s": "_seconds"}


def of_metric(metric: str) -> DisplayUnit:
    """Return the unit in which a metric is printed."""
    return BY_NAME[METRICS[metric].display]


def heading(metric: str) -> str:
    """Return a metric's name with its display unit instead of its stored unit."""
    name = metric.removesuffix(ENDINGS.get(METRICS[metric].unit, ""))
    return f"{name.replace('_', ' ')} {of_metric(metric).name}".rstrip()


def signed(unit: DisplayUnit, value: float | None) -> str:
    """Return a number in a unit, with a plus sign if it is positive."""
    return replace(unit, signed=True)(value)


def reach(low: float, centre: float, high: float) -> str:
    """Return the larger distance from a centre to the ends of its interval, in percent of it.

    It is rounded up, so that the interval is never shown narrower than it is.
    """
    percents = 100 * max(high - centre, centre - low) / centre
    return f"±{math.ceil(percents - ROUNDING):,}%"


def learning_rate(value: float | None) -> str:
    """Return a learning rate as it is written in a suite."""
    return NOTHING if value is None else f"{value:g}"


def seeds(number: int) -> str:
    """Return a number of seeds in words."""
    return "1 seed" if number == 1 else f"{number} seeds"


def storage(size_bytes: int) -> str:
    """Return a size on a disk in the unit in which it is easiest to read."""
    size, names = float(size_bytes), ["KiB", "MiB", "GiB", "TiB"]
    if size < KIBI:
        return f"{size_bytes} B"
    while size >= KIBI and names:
        size, name = size / KIBI, names.pop(0)
    return f"{size:.1f} {name}"
