"""Time trials in turns, so that drift of the machine affects all of them equally."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from bsrbench.harness.meters.phase_clock import settled
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import PassResult

TIMED = "step_seconds"


class TrialWithKey(Protocol):
    """A trial and the key of its record."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""

    @property
    def key(self) -> str:
        """The record's key."""


Member = TypeVar("Member", bound=TrialWithKey)


def rounds_of(group: Sequence[TrialWithKey]) -> int:
    """Return the minimum number of rounds of a group: the largest that a member asks for."""
    return max((trial.spec.profile.rounds for trial in group if trial.spec.profile), default=0)


def budget_of(group: Sequence[TrialWithKey], members: int) -> float:
    """Return the time budget for a number of members: the group's mean budget for each."""
    each = [trial.spec.profile.budget_seconds for trial in group if trial.spec.profile]
    return sum(each) * members / len(each) if each else 0.0


def time_in_turns(
    group: Sequence[Member],
    visit: Callable[[Member, int], PassResult],
    now: Callable[[], float] = time.monotonic,
    companions: Collection[str] = (),
) -> dict[str, PassResult]:
    """Visit every trial once per round, and return the joined visits of each trial, by key.

    Every second round runs backwards, so that a steady drift affects the first and the last member
    equally. Rounds are repeated until all medians have settled or the sum of the members' budgets
    is used up. A trial that fails is not visited again.

    Args:
        group: the trials, in the order of the first round.
        visit: times a trial once, in the round of the given number.
        now: the clock.
        companions: keys of stored trials that are timed again for comparison. The other trials
            determine the number of rounds and the budget; if none of them is left, timing stops.
    """
    visits: dict[str, list[PassResult]] = {trial.key: [] for trial in group}
    new = [trial for trial in group if trial.key not in companions]
    budget = budget_of(new, len(group))
    began, turn, stopped_by = now(), 0, ""
    while _running(new, visits) and (turn < rounds_of(new) or not stopped_by):
        for trial in group if turn % 2 == 0 else reversed(group):
            if all(result.status == Status.COMPLETED for result in visits[trial.key]):
                visits[trial.key].append(visit(trial, turn))
        turn += 1
        stopped_by = _reason_to_stop(group, visits, spent=now() - began >= budget)
    return {key: _joined(results, turn, stopped_by) for key, results in visits.items()}


def _reason_to_stop(
    group: Sequence[TrialWithKey], visits: dict[str, list[PassResult]], *, spent: bool
) -> str:
    """Return ``interval`` or ``budget``; empty if more rounds are needed."""
    running = _running(group, visits)
    samples = {
        trial.key: [s for r in visits[trial.key] for s in _samples(r.readings(), TIMED)]
        for trial in running
    }
    if all(
        settled(samples[trial.key], trial.spec.profile.within)
        for trial in running
        if trial.spec.profile
    ):
        return "interval"
    return "budget" if spent else ""


def _running(group: Sequence[Member], visits: dict[str, list[PassResult]]) -> list[Member]:
    """Return the trials whose visits have all completed."""
    return [
        trial
        for trial in group
        if all(result.status == Status.COMPLETED for result in visits[trial.key])
    ]


def _joined(visits: list[PassResult], rounds: int, stopped_by: str) -> PassResult:
    """Return all visits of one trial as one result: samples in order, or the first failure."""
    for result in visits:
        if result.status != Status.COMPLETED:
            return result
    readings = [result.readings() for result in visits]
    timed = dict.fromkeys(name for reading in readings for name in reading.measurements)
    # The first pass of a run includes the start of the fork server; the last one does not.
    first, last = visits[0], visits[-1]
    return PassResult(
        start_seconds=last.start_seconds,
        reading=PassReadings(
            {name: [s for reading in readings for s in _samples(reading, name)] for name in timed},
            readings[0].missing,
            _disturbances(readings),
            Sidecar(clock=_clock(readings, rounds, stopped_by)),
        ),
        device=first.device,
        method=first.method,
        set_by_method=first.set_by_method,
        began_at=first.began_at,
        seconds=sum(result.seconds or 0.0 for result in visits),
    )


def _samples(reading: PassReadings, metric: str) -> Sequence[int | float]:
    """Return the samples of a metric in one visit; a clock pass measures only samples."""
    value = reading.measurements.get(metric)
    return value if isinstance(value, Sequence) else ()


def _disturbances(readings: list[PassReadings]) -> tuple[Note, ...]:
    """Return one note on all disturbed visits, with the text of the first one."""
    noted = [reading.notes for reading in readings if reading.notes]
    if not noted:
        return ()
    text = f"{len(noted)} of {len(readings)} visits were disturbed; {noted[0][0].text}"
    return (Note(NoteKind.TIMING, text),)


def _clock(readings: list[PassReadings], rounds: int, stopped_by: str) -> ClockDetail:
    """Return the details of all visits; each list joins the lists of the visits in order."""
    seen = [reading.detail.clock or ClockDetail() for reading in readings]
    return ClockDetail(
        warmup_steps=tuple(steps for visit in seen for steps in visit.warmup_steps),
        outside_share=tuple(share for visit in seen for share in visit.outside_share),
        stolen_share=tuple(share for visit in seen for share in visit.stolen_share),
        throttled=tuple(words for visit in seen for words in visit.throttled),
        governor=tuple(name for visit in seen for name in visit.governor),
        cores=tuple(cores for visit in seen for cores in visit.cores),
        rounds=rounds,
        stopped_by=stopped_by,
    )
