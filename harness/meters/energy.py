"""Measure the energy of an action with two readings of a counter."""

from collections.abc import Callable

from bsrbench.harness.errors import Unreadable


def joules(action: Callable[[], object], counter: Callable[[], float]) -> float:
    """Run ``action`` and return the joules by which the counter rose.

    Args:
        action: the action to measure; it must wait for the device before it returns.
        counter: returns the joules since a fixed moment; from a device's ``energy_counter()``.

    Raises:
        Unreadable: the counter cannot be read, or it did not change. This is never 0 joules.
    """
    before = counter()
    action()
    used = counter() - before
    if used <= 0:
        raise Unreadable("the energy counter did not change: the action was too short")
    return used
