"""Energy of an action, between two readings of a counter."""

from collections.abc import Callable

from bsrbench.harness.errors import Unreadable


def joules(action: Callable[[], object], counter: Callable[[], float]) -> float:
    """Run ``action`` and return the joules the counter rose by.

    Args:
        action: what to measure; it must wait for the device itself before it returns.
        counter: reads joules since some moment; a device's ``energy_counter()``.

    Raises:
        Unreadable: the counter cannot be read, or did not change; no change never means 0 joules.
    """
    before = counter()
    action()
    used = counter() - before
    if used <= 0:
        raise Unreadable("the energy counter did not move: the action was too short for it")
    return used
