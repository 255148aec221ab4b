"""Check values of options that several methods have; what is wrong is known without a model."""


def check_blocks(option: str, indices: tuple[int, ...]) -> None:
    """Check that an option names blocks.

    Raises:
        ValueError: a number is negative or stands twice.
    """
    if any(index < 0 for index in indices) or len(set(indices)) < len(indices):
        raise ValueError(f"{option} {indices} must be different blocks counted from 0")


def check_share(option: str, value: float) -> None:
    """Check that an option is a share of which something is left.

    Raises:
        ValueError: it is not.
    """
    if not 0 < value <= 1:
        raise ValueError(f"{option} {value} must lie in (0, 1]")


def check_at_least(option: str, value: float, least: int) -> None:
    """Check a lower bound.

    Raises:
        ValueError: the value lies below it.
    """
    if not value >= least:
        raise ValueError(f"{option} {value} must be at least {least}")
