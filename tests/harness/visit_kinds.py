"""The kinds of visits of a clock pass, with another least time."""

from dataclasses import replace

from bsrbench.harness.profiler import clock_visits


def visits_of(least_seconds):
    """Return the kinds of visits, each at least so long."""
    kinds = clock_visits.VISIT_KINDS
    return {name: replace(kind, least_seconds=least_seconds) for name, kind in kinds.items()}
