"""Time pairs of identical trials, which must not differ more often than by chance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import binom

from bsrbench.harness.doctor.known_trial import Performs, known_spec
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.launch.round_group import time_in_turns
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.ratio_interval import Generations, Ratio, by_generation, time_ratio
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.reports.compare.repeated_timings import STEP
from bsrbench.reports.compare.statistics import DOCTOR_CONFIDENCE

SHOWN = 3  # ratios that are printed
SURE = 0.99  # quantile of the number of pairs that differ by chance; more is a wrong reading


@dataclass(frozen=True)
class _Twin:
    spec: TrialSpec
    key: str


def identical_pair(launcher: Performs, device: str) -> Ratio | None:
    """Time a trial against itself at the default settings and return the ratio."""
    spec = known_spec(device, Profile())
    settings = spec.profile
    group = [_Twin(spec, "first"), _Twin(spec, "second")]
    timed = time_in_turns(group, lambda twin: launcher.resident(twin.spec))
    if settings is None:
        return None
    first, second = (_steps(timed[twin.key].readings(), settings.steps) for twin in group)
    return time_ratio(first, second, DOCTOR_CONFIDENCE)


def _steps(readings: PassReadings, steps: int) -> Generations:
    """Return the step times by process generation; empty if the trial failed."""
    samples, clock = readings.measurements.get(STEP), readings.detail.clock
    if not isinstance(samples, Sequence):
        return {}
    return by_generation(samples, steps, clock.generations.get(STEP, ()) if clock else ())


def judge_pairs(device: str, ratios: Iterable[Ratio | None]) -> MeterCheck:
    """Judge pairs of a trial with itself: about 1 pair in 100 seems to differ by chance."""
    timed = [ratio for ratio in ratios if ratio is not None]
    what = "identical pair"
    if not timed:
        return MeterCheck(device, what, "could not be timed", good=False)
    differ = sum(ratio.differs() for ratio in timed)
    shown = [f"{r.centre:.3f} [{r.low or 0:.3f}, {r.high or 0:.3f}]" for r in timed[:SHOWN]]
    count = f"{differ} of {len(timed)} seem to differ: {', '.join(shown)}"
    good = differ <= int(binom.ppf(SURE, len(timed), 1 - DOCTOR_CONFIDENCE))
    return MeterCheck(device, what, count + (", ..." if len(timed) > SHOWN else ""), good=good)
