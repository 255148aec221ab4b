"""The pass of CPU time: steps in turns with other trials, in a process whose threads sleep."""

import math
import os
import time

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.hardware_counters import CYCLES, INSTRUCTIONS, HardwareCounters
from bsrbench.harness.meters.sleeping_threads import threads_sleep
from bsrbench.harness.profiler.clock_pass import Turn, scheduling_of_visits
from bsrbench.harness.profiler.clock_visits import END, Visited
from bsrbench.harness.profiler.profiled_step import job_and_batch, until_taken
from bsrbench.harness.records.pass_readings import PassReadings, absent, joined_readings
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.training_step import training_step

CPU_SECONDS = "step_cpu_seconds"
COUNTED = {"step_instructions": INSTRUCTIONS, "step_cycles": CYCLES}
# A visit has at least so much CPU time. A process that has slept reads its data into the caches
# again, which a short visit would count in full.
VISIT_CPU_SECONDS = 0.1
LEAST_WARM_UP_STEPS = 2  # the last one finds the number of steps in a visit


def cpu_pass(spec: TrialSpec, load: Loader, turn: Turn) -> PassReadings:
    """Build the trial and warm it up; then measure the CPU time of steps in each turn.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        turn: waits for the next turn.

    Raises:
        ValueError: the threads of this process spin while they wait, so its CPU time contains it.
    """
    if spec.profile is None:
        raise ValueError("a trial without a profile part has no pass of CPU time")
    if not threads_sleep():
        raise ValueError("CPU time is measured in processes with OMP_WAIT_POLICY=PASSIVE")
    visits = CpuVisits(spec, load)
    seen = Visited()
    while turn(seen) != END:
        seen = visits.visit()
    return visits.readings()


class CpuVisits:
    """Measures the CPU time of a trial's steps in visits; it is made by warming the trial up.

    The counters are opened first, because they count only threads that start later.

    Args:
        spec: the trial.
        load: turns a method's name into a method.

    Attributes:
        warmup_steps: number of steps before the first visit.
        steps: number of steps in a visit.
    """

    def __init__(self, spec: TrialSpec, load: Loader) -> None:
        self._samples: dict[str, list[float]] = {CPU_SECONDS: []}
        self._why_not_counted = ""
        self._counters: HardwareCounters | None = None
        try:
            self._counters = HardwareCounters(list(COUNTED.values()))
        except Unreadable as error:
            self._why_not_counted = str(error)
        self._job, self._batch = job_and_batch(spec, load)
        self._job.current.keep_all()
        self._states = max(1, len(self._job.current.states))
        self._warm_up(spec.profile.warmup_steps if spec.profile else 0)
        used = self._measure(1)[CPU_SECONDS] * self._states
        self._cycles = math.ceil(VISIT_CPU_SECONDS / max(used, 1e-6))
        self.steps = self._cycles * self._states
        self._scheduling = scheduling_of_visits(spec)

    def visit(self) -> Visited:
        """Measure a number of steps; repeat the visit if an optimizer step was skipped."""
        before = time.process_time()
        each = until_taken(self._job, lambda: self._measure(self._cycles))
        used = time.process_time() - before
        for metric, value in each.items():
            self._samples.setdefault(metric, []).append(value)
        return Visited(each[CPU_SECONDS], used)

    def readings(self) -> PassReadings:
        """Return all samples: of each visit the mean per step."""
        detail = ClockDetail(
            warmup_steps=(self.warmup_steps,),
            cores=(tuple(sorted(os.sched_getaffinity(0))),),
            steps_per_visit=self.steps,
            scheduling=(self._scheduling,),
        )
        if self._why_not_counted:
            self._samples = {CPU_SECONDS: self._samples[CPU_SECONDS]}
        measured = PassReadings(dict(self._samples), detail=Sidecar(clock=detail))
        if not self._why_not_counted:
            return measured
        reason = absent(AbsenceKind.UNREADABLE, self._why_not_counted, *COUNTED)
        return joined_readings([measured, reason])

    def _cycle(self) -> None:
        """Run a step, or one in each state if the method has states."""
        for _ in range(self._states):
            training_step(self._job, *self._batch)
            self._job.current.enter_next()

    def _warm_up(self, least: int) -> None:
        """Run all steps of the warm-up but the last one; with states, all cycles but the last."""
        until_taken(self._job, self._cycle)
        for _ in range(least - LEAST_WARM_UP_STEPS):
            self._cycle()
        steps = max(LEAST_WARM_UP_STEPS, least) * self._states
        self.warmup_steps = steps + self._job.skipped_steps()

    def _measure(self, cycles: int) -> dict[str, float]:
        """Return the CPU seconds and the counts per step of a number of cycles."""
        counts, began = self._counts(), time.process_time()
        steps = cycles * self._states
        for _ in range(cycles):
            self._cycle()
        spent, more = time.process_time() - began, self._counts()
        each = {CPU_SECONDS: spent / steps}
        for metric, first, last in zip(COUNTED, counts, more, strict=False):
            each[metric] = (last - first) / steps
        return each

    def _counts(self) -> list[int]:
        """Return the counts so far; empty if they are not readable."""
        if self._counters is None:
            return []
        try:
            return self._counters.read()
        except Unreadable as error:
            self._why_not_counted = str(error)
            self._counters.close()
            self._counters = None
            return []
