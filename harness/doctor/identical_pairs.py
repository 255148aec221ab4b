"""Time pairs of identical trials, which must not differ more often than by chance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import binom

from bsrbench.harness.doctor.known_trial import Performs, known_spec
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.launch.round_group import time_in_turns
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.reports.compare.statistics import DOCTOR_CONFIDENCE, Ratio, time_ratio

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
    timed = time_in_turns(group, lambda twin, _: launcher.perform("clock", twin.spec))
    first, second = (timed[twin.key].readings().measurements.get("step_seconds") for twin in group)
    if settings is None or not (isinstance(first, Sequence) and isinstance(second, Sequence)):
        return None  # a member failed
    return time_ratio(list(first), list(second), settings.steps, DOCTOR_CONFIDENCE)


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
