"""Time trials in turns, so that drift of the machine hits all of them alike."""

from collections.abc import Callable, Sequence
from typing import Protocol

from harness.record import Status
from harness.spec import TrialSpec
from harness.trial import PassResult


class Planned(Protocol):
    """A trial and the key its record will have."""

    @property
    def spec(self) -> TrialSpec:
        """What to do."""

    @property
    def key(self) -> str:
        """The record's key."""


def rounds_of(group: Sequence[Planned]) -> int:
    """Return how many rounds a group is timed in: the most any member asks for."""
    return max((trial.spec.profile.rounds for trial in group if trial.spec.profile), default=0)


def time_in_turns(
    group: Sequence[Planned], visit: Callable[[TrialSpec, int], PassResult]
) -> dict[str, PassResult]:
    """Visit every trial once a round, and return each one's visits joined, by key.

    A trial that fails is not visited again.
    """
    visits: dict[str, list[PassResult]] = {trial.key: [] for trial in group}
    for turn in range(rounds_of(group)):
        for trial in group:
            if all(result.status == Status.COMPLETED for result in visits[trial.key]):
                visits[trial.key].append(visit(trial.spec, turn))
    return {key: _joined(results) for key, results in visits.items()}


def _joined(visits: list[PassResult]) -> PassResult:
    """Return all visits of one trial as one result: samples in order, or the first failure."""
    for result in visits:
        if result.status != Status.COMPLETED:
            return result
    measurements: dict[str, list[float]] = {}
    for result in visits:
        for name, samples in result.reading["measurements"].items():
            measurements.setdefault(name, []).extend(samples)
    # The first pass of a run also starts the fork server; the last one shows the steady cost.
    first, last = visits[0], visits[-1]
    reading = first.reading | {"measurements": measurements}
    return PassResult(reading=reading, device=first.device, start_seconds=last.start_seconds)
