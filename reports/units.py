"""The only place that scales and rounds numbers for people."""

MEBI = 2**20
GIGA = 1e9
MEGA = 1e6
MILLI = 1e-3
NOTHING = "–"


def mebibytes(value: float | None) -> str:
    """Return bytes as MiB (2^20)."""
    return NOTHING if value is None else f"{value / MEBI:,.1f}"


def gigaflop(value: float | None) -> str:
    """Return FLOPs as GFLOP (10^9, 2 per multiply-add)."""
    return NOTHING if value is None else f"{value / GIGA:,.2f}"


def milliseconds(value: float | None) -> str:
    """Return seconds as ms."""
    return NOTHING if value is None else f"{value / MILLI:,.0f}"


def seconds(value: float | None) -> str:
    """Return seconds with one digit."""
    return NOTHING if value is None else f"{value:,.1f}"


def millions(value: float | None) -> str:
    """Return a count in millions."""
    return NOTHING if value is None else f"{value / MEGA:,.3f}"


def rate(value: float | None) -> str:
    """Return something a second."""
    return NOTHING if value is None else f"{value:,.1f}"


def share(value: float | None) -> str:
    """Return a fraction with three digits."""
    return NOTHING if value is None else f"{value:.3f}"


def ratio(value: float | None) -> str:
    """Return a ratio with a multiplication sign."""
    return NOTHING if value is None else f"{value:.2f}×"


def plain(value: float | None) -> str:
    """Return a ratio without a sign, as in an interval."""
    return NOTHING if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Return a small share in per cent, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.2f} %"


def learning_rate(value: float | None) -> str:
    """Return a learning rate as it would be written in a suite."""
    return NOTHING if value is None else f"{value:g}"
