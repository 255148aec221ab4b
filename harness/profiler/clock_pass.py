"""The clock pass: one visit of a round group, with no meter attached to what is timed."""

import os
from dataclasses import asdict

from torch import Tensor

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import energy, phase_clock
from bsrbench.harness.meters.machine_load import LoadWatch
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.harness.training.compiled_forward import CompiledForward
from bsrbench.harness.training.evaluation import evaluate_batch
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.training_step import training_step

COMPILE_SECONDS = "compile_seconds"
PHASES = ("forward", "backward", "optimizer")
PHASE_STEPS = 2  # timed by phase in each visit; synchronising within a step may slow it


def clock_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Time whole steps, then steps by phase, then evaluation, each in a loop of its own."""
    if spec.profile is None:
        raise ValueError("a trial without a profile part has no clock pass")
    job, batch = job_and_batch(spec, load)
    with LoadWatch() as watch:
        reading = _loops(job, batch, spec.profile)
    found = watch.disturbance
    reading.notes.extend(found.notes())
    reading.notes.extend(f"the device is slowed down: {why}" for why in job.device.slowdowns())
    reading.detail.update({name: [value] for name, value in asdict(found).items()})
    reading.detail["cores"] = [sorted(os.sched_getaffinity(0))]
    return reading


def _loops(job: Job, batch: tuple[Tensor, Tensor], settings: Profile) -> PassReadings:
    wait = job.device.synchronise
    compiled = job.forward if isinstance(job.forward, CompiledForward) else None
    least = max(1, settings.warmup_steps) if compiled else settings.warmup_steps
    warmup = phase_clock.warm_up(lambda: training_step(job, *batch), wait, least)
    spent = [compiled.seconds()] if compiled else []
    reading = _whole_steps(job, batch, settings.steps)
    reading.detail["warmup_steps"] = [len(warmup)]
    if spent:
        reading.measurements[COMPILE_SECONDS] = spent
    phases = [_phases(job, batch) for _ in range(PHASE_STEPS)]
    for phase in PHASES:
        reading.measurements[f"{phase}_seconds"] = [found[phase] for found in phases]
    job.model.eval()
    evaluate_batch(job, batch[0])
    reading.measurements["evaluation_seconds"] = phase_clock.seconds_each(
        lambda: evaluate_batch(job, batch[0]), settings.steps, wait
    )
    return reading


def _whole_steps(job: Job, batch: tuple[Tensor, Tensor], steps: int) -> PassReadings:
    """Time steps; the counter of energy is read before the first and after the last."""
    samples: list[float] = []

    def loop() -> None:
        samples.extend(
            phase_clock.seconds_each(
                lambda: training_step(job, *batch), steps, job.device.synchronise
            )
        )

    reading = PassReadings()
    try:
        used = energy.joules(loop, job.device.energy_counter())
        reading.measurements["joules_per_image"] = [used / (steps * len(batch[1]))]
    except Unreadable as reason:
        reading.missing["joules_per_image"] = str(reason)
        if not samples:
            loop()
    reading.measurements["step_seconds"] = samples
    return reading


def _phases(job: Job, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return the seconds of each phase of one step."""
    phases = phase_clock.PhaseClock(job.device.synchronise)
    training_step(job, *batch, enter_phase=phases.enter_phase)
    phases.stop()
    return phases.seconds
