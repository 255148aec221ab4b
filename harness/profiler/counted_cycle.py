"""Steps under the counting meter in each state of a method that changes what trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from bsrbench.harness.profiler.counted_step import CountedStep, counted_step
from bsrbench.harness.records.pass_readings import NOTHING, PassReadings
from bsrbench.harness.training.job import Job


@dataclass(frozen=True)
class CountedCycle:
    """What was counted in each state; a method without states has one.

    Attributes:
        first_peak: the largest peak of a first step, in which the optimizer makes its state.
        steady: the steady step with the largest peak.
        again: another one in the same state.
        peaks: the peaks of the steady steps of all states.
    """

    first_peak: int
    steady: CountedStep
    again: CountedStep
    peaks: tuple[int, ...]


def counted_cycle(job: Job, batch: tuple[Tensor, Tensor]) -> CountedCycle:
    """Count a first step and a steady one in each state, and one more where the peak is largest.

    Afterwards the job is in this state.

    Args:
        job: the trial.
        batch: images [n, 3, side, side] and labels [n].
    """
    first_peaks, peaks = [], []
    largest: tuple[CountedStep, tuple[int, ...] | None] | None = None
    for state in job.current.in_each_state():
        first_peaks.append(counted_step(job, batch).peak)
        steady = counted_step(job, batch)
        peaks.append(steady.peak)
        if largest is None or steady.peak > largest[0].peak:
            largest = steady, state
    if largest is None:
        raise ValueError("a method has at least one state")
    steady, state = largest
    if state is not None and state != job.current.state:
        job.current.enter(state)
        counted_step(job, batch)  # makes the optimizer's state
    return CountedCycle(max(first_peaks), steady, counted_step(job, batch), tuple(peaks))


def over_states(states: int, peaks: Sequence[int]) -> PassReadings:
    """Return what only a method with states has: their number, and the mean of their peaks."""
    if not states:
        return NOTHING
    return PassReadings({"measured_states": states, "mean_peak_bytes": round(fmean(peaks))})
