"""The visits of a clock pass: steps, steps by phase, evaluations, and steps for their energy."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from torch import Tensor

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import energy, phase_clock
from bsrbench.harness.profiler.profiled_step import until_taken
from bsrbench.harness.records.pass_readings import PassReadings, absent, joined_readings
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training.compiled_forward import CompiledForward
from bsrbench.harness.training.evaluation import evaluate_batch
from bsrbench.harness.training.job import Job
from bsrbench.harness.training.training_step import training_step

COMPILE_SECONDS, JOULES = "compile_seconds", "joules_per_image"
PHASE_NAMES = ("forward", "backward", "optimizer")
STEPS, PHASES, EVALUATION, ENERGY, END = "steps", "phases", "evaluation", "energy", "end"
# A visit is at least so long. Reading the clock and waking the threads take microseconds.
VISIT_SECONDS = 0.02
EVALUATIONS_BEFORE = 2  # evaluations that warm a process up
ENERGY_SECONDS = 2.0  # the slowest counters of energy change ten times per second


@dataclass(frozen=True)
class VisitKind:
    """What a visit of a kind repeats, and how often.

    Attributes:
        least_seconds: the action is repeated for at least so long.
        evaluates: the action is an evaluation of the batch, not a step.
        begins_untimed: an action that is repeated runs once more before it is timed.
    """

    least_seconds: float = VISIT_SECONDS
    evaluates: bool = False
    begins_untimed: bool = True

    def times(self, once_seconds: float, least: int) -> int:
        """Return how often an action is repeated, at least ``least`` times."""
        return max(least, math.ceil(self.least_seconds / max(once_seconds, 1e-6)))

    def seconds(self, step_seconds: float, evaluation_seconds: float, steps: int) -> float:
        """Return how long a visit takes, if it has at least ``steps`` steps or one evaluation."""
        once = evaluation_seconds if self.evaluates else step_seconds
        times = self.times(once, 1 if self.evaluates else steps)
        return (times + (times > 1 and self.begins_untimed)) * once


VISIT_KINDS = {
    STEPS: VisitKind(),
    PHASES: VisitKind(),
    EVALUATION: VisitKind(evaluates=True),
    ENERGY: VisitKind(ENERGY_SECONDS, begins_untimed=False),
}


class Visited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a visit while its pass goes on.

    Attributes:
        seconds: mean seconds per step; ``None`` if it was not a visit of whole steps.
        cpu_seconds: CPU time of the process since its last answer, over all threads.
        energy: whether the device has a counter of energy.
    """

    seconds: float | None = None
    cpu_seconds: float = 0.0
    energy: bool = False


READY = Visited()


class ClockVisits:
    """Times a job in visits and keeps the samples; it is made by warming the job up.

    Args:
        job: the trial.
        batch: images [n, 3, side, side] and labels [n] of its steps.
        settings: how it is timed.

    Attributes:
        warmup_steps: number of steps before the first visit.
        steps: number of steps in a visit of whole steps.
    """

    def __init__(self, job: Job, batch: tuple[Tensor, Tensor], settings: Profile) -> None:
        self._job, self._batch = job, batch
        self._samples: dict[str, list[float]] = {"step_seconds": []}
        self._unreadable = ""
        compiled = job.forward if isinstance(job.forward, CompiledForward) else None
        least = max(1, settings.warmup_steps) if compiled else settings.warmup_steps
        job.current.keep_all()
        self._states = max(1, len(job.current.states))
        settling = self._settle()
        warmup = phase_clock.warm_up(self._cycle, job.device.synchronise, least)
        self.warmup_steps = settling + len(warmup) * self._states
        if compiled:
            self._samples[COMPILE_SECONDS] = [compiled.seconds()]
        self._cycles = _times(STEPS, warmup, math.ceil(settings.steps / self._states))
        self.steps = self._cycles * self._states
        self.evaluations = self._in_evaluation_mode(self._warm_up_evaluation)
        self._of = {
            STEPS: self._time_steps,
            PHASES: self._time_phases,
            EVALUATION: lambda: self._in_evaluation_mode(self._time_evaluations),
            ENERGY: self._measure_energy,
        }

    def has_energy_counter(self) -> bool:
        """Return whether the device has a counter of energy that can be read."""
        try:
            self._job.device.energy_counter()
        except Unreadable as reason:
            self._unreadable = str(reason)
            return False
        return True

    def visit(self, kind: str) -> float | None:
        """Make a visit of a kind; return the mean seconds per step if these are whole steps."""
        self._of[kind]()
        return self._samples["step_seconds"][-1] if kind == STEPS else None

    def readings(self) -> PassReadings:
        """Return all samples: of each visit the mean seconds per step or evaluation."""
        if JOULES in self._samples or not self._unreadable:
            return PassReadings(dict(self._samples))
        joules = absent(AbsenceKind.UNREADABLE, self._unreadable, JOULES)
        return joined_readings([PassReadings(dict(self._samples)), joules])

    def _step(self) -> None:
        """Run a step; the next one is in the next state, if the method has states."""
        training_step(self._job, *self._batch)
        self._job.current.enter_next()

    def _cycle(self) -> None:
        """Run a step in each state."""
        for _ in range(self._states):
            self._step()

    def _evaluate(self) -> None:
        evaluate_batch(self._job, self._batch[0])

    def _settle(self) -> int:
        """Run steps in fp16 until the loss scale is small enough; return how many were run."""
        if self._job.scaler is None:
            return 0
        until_taken(self._job, self._step)
        return self._job.skipped_steps() + 1

    def _time_steps(self) -> None:
        """Time whole steps; repeat the visit if an optimizer step was skipped."""
        seconds = until_taken(self._job, lambda: self._seconds(self._cycle, self._cycles))
        self._sample("step_seconds", seconds / self._states)

    def _time_evaluations(self) -> int:
        self._sample("evaluation_seconds", self._seconds(self._evaluate, self.evaluations))
        return self.evaluations

    def _time_phases(self) -> None:
        """Time as many steps as in a visit of whole steps, and in the same way."""
        seconds = until_taken(self._job, self._phase_seconds)
        for phase, spent in seconds.items():  # a method that estimates gradients has no backward
            self._sample(f"{phase}_seconds", spent / self.steps)

    def _phase_seconds(self) -> dict[str, float]:
        """Return the seconds of each phase; waiting within a step may slow it."""
        phases = phase_clock.PhaseClock(self._job.device.synchronise)
        if self._cycles > 1:
            self._cycle()
        for _ in range(self.steps):
            training_step(self._job, *self._batch, enter_phase=phases.enter_phase)
            phases.stop()
            self._job.current.enter_next()
        return phases.seconds

    def _seconds(self, action: Callable[[], None], times: int) -> float:
        """Return the mean seconds of an action that is repeated.

        The processes that ran meanwhile have taken the caches. An action that is repeated because
        it is short therefore runs once before it is timed.
        """
        wait = self._job.device.synchronise
        if times > 1:
            action()
        wait()
        start = time.perf_counter()
        for _ in range(times):
            action()
        wait()
        return (time.perf_counter() - start) / times

    def _measure_energy(self) -> None:
        """Repeat the step for ``ENERGY_SECONDS``; the counter is read before and afterwards."""
        steps, wait = 0, self._job.device.synchronise

        def loop() -> None:
            nonlocal steps
            ends = time.perf_counter() + VISIT_KINDS[ENERGY].least_seconds
            while not steps or time.perf_counter() < ends:
                self._cycle()
                wait()
                steps += self._states

        try:
            used = energy.joules(loop, self._job.device.energy_counter())
        except Unreadable as reason:
            self._unreadable = str(reason)
        else:
            self._sample(JOULES, used / (steps * len(self._batch[1])))

    def _warm_up_evaluation(self) -> int:
        """Evaluate twice, and return the number of evaluations in a visit."""
        wait = self._job.device.synchronise
        return _times(
            EVALUATION, phase_clock.seconds_each(self._evaluate, EVALUATIONS_BEFORE, wait), 1
        )

    def _in_evaluation_mode(self, action: Callable[[], int]) -> int:
        self._job.model.eval()
        try:
            return action()
        finally:
            self._job.model.train()

    def _sample(self, metric: str, value: float) -> None:
        self._samples.setdefault(metric, []).append(value)


def _times(kind: str, warmup: list[float], least: int) -> int:
    """Return how often an action is repeated in a visit, from its times while warming up."""
    if not warmup:
        return least
    return VISIT_KINDS[kind].times(warmup[-1], least)
