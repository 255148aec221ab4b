"""Check values of options that several methods have. The checks need no model."""


def check_blocks(option: str, indices: tuple[int, ...]) -> None:
    """Check that an option is a list of block indices.

    Raises:
        ValueError: an index is negative or is given twice.
    """
    if any(index < 0 for index in indices) or len(set(indices)) < len(indices):
        raise ValueError(f"{option} {indices} must be different blocks counted from 0")


def check_share(option: str, value: float) -> None:
    """Check that an option is a share in (0, 1].

    Raises:
        ValueError: the value is outside this interval.
    """
    if not 0 < value <= 1:
        raise ValueError(f"{option} {value} must lie in (0, 1]")


def check_at_least(option: str, value: float, least: int) -> None:
    """Check that an option is not less than a lower bound.

    Raises:
        ValueError: the value is less than ``least``, or is NaN.
    """
    if not value >= least:
        raise ValueError(f"{option} {value} must be at least {least}")
