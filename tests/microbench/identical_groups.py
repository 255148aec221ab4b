"""Time groups of identical rows on this machine: how often do they seem to differ?

    python -m tests.microbench.identical_groups --groups 20 --busy 0.05 --idle 0.05 > groups.md

Each group times one trial against itself in turns, as the rows of a suite. The intervals of 95
of 100 ratios must contain 1, and at most 5 of 100 groups may have a row that a report would call
better or worse than the first one. The exit status says whether more do than chance explains.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from scipy.stats import binom

from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.round_group import time_in_turns
from bsrbench.harness.meters.scheduling import REAL_TIME, SETTING
from bsrbench.harness.records.ratio_interval import Ratio, by_generation, time_ratio
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.reports.compare import verdict
from bsrbench.reports.compare.statistics import corrected_ps
from bsrbench.reports.compare.verdict import VerdictWord
from tests.microbench.neighbour import neighbour

STEP = "step_seconds"
LUCK = 0.99  # quantile of the number that chance explains
HEADING = (
    "| group | ratios to the first row, with intervals of 95 % | contain 1 | false verdicts |",
    "| ---: | --- | ---: | ---: |",
)


@dataclass(frozen=True)
class Twin:
    """A row of a group; all have the same trial."""

    spec: TrialSpec
    key: str


def ratios(rows: int, group: int, profile: Profile) -> list[Ratio]:
    """Time a group of identical rows; return the ratios of the others to the first row."""
    workload = Workload(
        model="deit_tiny_patch16_224", image_size=64, classes=10, batch=4, device="cpu", threads=2
    )
    spec = TrialSpec(method="full", workload=workload, profile=profile)
    launcher = LocalLauncher(methods.load)
    twins = [Twin(spec, str(number)) for number in range(rows)]
    timed = time_in_turns(twins, lambda twin: launcher.resident(twin.spec), order_seed=group)
    first, *others = [_times(timed[twin.key]) for twin in twins]
    found = [time_ratio(ours, first, planned=profile.generations) for ours in others]
    return [ratio for ratio in found if ratio]


def scheduling() -> str:
    """Return the scheduling that was asked for."""
    return os.environ.get(SETTING, REAL_TIME)


def _times(result: PassResult) -> dict[int, list[float]]:
    readings = result.readings()
    samples, clock = readings.measurements.get(STEP), readings.detail.clock
    if not isinstance(samples, list | tuple) or clock is None:
        raise SystemExit(f"a row could not be timed: {result.status}: {result.reason}")
    return dict(by_generation(samples, 1, clock.generations[STEP]))


def contains_one(ratio: Ratio) -> bool:
    """Tell whether the interval contains 1, as it should."""
    return not ratio.differs()


def false_verdicts(found: list[Ratio]) -> int:
    """Return how many rows a report would call better or worse than the first row."""
    judged = zip(found, corrected_ps(found), strict=True)
    words = [verdict.of_time(STEP, ratio, p, len(found)).word for ratio, p in judged]
    return sum(word in {VerdictWord.BETTER, VerdictWord.WORSE} for word in words)


def lines(groups: list[list[Ratio]]) -> Iterator[str]:
    """Yield the Markdown table of all groups, and the sums below it."""
    yield from HEADING
    for number, found in enumerate(groups, 1):
        shown = ", ".join(f"{r.centre:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in found)
        contained = sum(map(contains_one, found))
        yield f"| {number} | {shown} | {contained} of {len(found)} | {false_verdicts(found)} |"
    every = [ratio for found in groups for ratio in found]
    widths = [ratio.high / ratio.centre - 1 for ratio in every if ratio.high]
    yield ""
    yield (
        f"{sum(map(contains_one, every))} of {len(every)} intervals contain 1. A report would have "
        f"a false verdict on {sum(false_verdicts(found) > 0 for found in groups)} of {len(groups)} "
        f"groups. Median half width {median(widths):.1%}, largest {max(widths):.1%}."
    )


def explained(groups: list[list[Ratio]]) -> bool:
    """Tell whether chance explains the intervals without 1 and the false verdicts.

    The ratios of a group share its first row, so they are not independent; a group therefore
    counts once: if half of its intervals do not contain 1.
    """
    wrong = sum(false_verdicts(found) > 0 for found in groups)
    missed = sum(2 * sum(not contains_one(r) for r in found) > len(found) for found in groups)
    most = int(binom.ppf(LUCK, len(groups), 0.05))
    return wrong <= most and missed <= most


def main() -> int:
    """Time the groups, print the table and return 0 if chance explains it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument(
        "--busy", type=float, default=0.05, help="seconds of the neighbour; 0: none"
    )
    parser.add_argument("--idle", type=float, default=0.05)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per row")
    asked = parser.parse_args()
    profile = Profile(budget_seconds=asked.budget)
    groups = []
    with neighbour(asked.busy, asked.idle):
        for group in range(asked.groups):
            groups.append(ratios(asked.rows, group, profile))
            sys.stderr.write(f"group {group + 1} of {asked.groups}\n")
    about = (
        f"{asked.groups} groups of {asked.rows} identical rows; a neighbour is busy for "
        f"{asked.busy:g} s and idle for {asked.idle:g} s; {asked.budget:g} s per row; "
        f"{os.cpu_count()} cores, {scheduling()} scheduling."
    )
    sys.stdout.write("\n".join([about, "", *lines(groups), ""]))
    return 0 if explained(groups) else 1


if __name__ == "__main__":
    sys.exit(main())
