"""The only place that scales and rounds numbers for people."""

from dataclasses import dataclass, replace

from bsrbench.harness.records.metric import UnitName
from bsrbench.harness.records.metrics import METRICS

MEBI = 2**20
GIGA = 1e9
MEGA = 1e6
MILLI = 1e-3
NOTHING = "–"


@dataclass(frozen=True)
class DisplayUnit:
    """How numbers of a kind are printed; called with a number, or ``None``, it prints it.

    Attributes:
        name: as it stands in a heading.
        scale: what a number is divided by.
        digits: behind the point.
        before: stands right before the number.
        behind: stands right behind it.
        signed: whether a number above 0 gets its sign.
    """

    name: str
    scale: float = 1.0
    digits: int = 1
    before: str = ""
    behind: str = ""
    signed: bool = False

    def __call__(self, value: float | None) -> str:
        """Return a number scaled and rounded; a dash for none."""
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
plain = DisplayUnit("", digits=2)  # a ratio in an interval
percent = DisplayUnit("%", 1e-2, 2, behind=" %", signed=True)


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
# How the name of a metric ends that is stored in a unit.
ENDINGS = {"B": "_bytes", "FLOP": "_flop", "MAC": "_macs", "s": "_seconds"}


def of_metric(metric: str) -> DisplayUnit:
    """Return the unit a metric is printed in."""
    return BY_NAME[METRICS[metric].display]


def heading(metric: str) -> str:
    """Return a metric's name with the unit it is printed in instead of its own."""
    name = metric.removesuffix(ENDINGS.get(METRICS[metric].unit, ""))
    return f"{name.replace('_', ' ')} {of_metric(metric).name}".rstrip()


def signed(unit: DisplayUnit, value: float | None) -> str:
    """Return a number in a unit, with its sign even where it is above 0."""
    return replace(unit, signed=True)(value)


def learning_rate(value: float | None) -> str:
    """Return a learning rate as it would be written in a suite."""
    return NOTHING if value is None else f"{value:g}"


def seeds(number: int) -> str:
    """Return a number of seeds in words."""
    return "1 seed" if number == 1 else f"{number} seeds"
