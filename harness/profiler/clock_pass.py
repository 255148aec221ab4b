"""The clock pass: one visit of a round group, timed without any other meter."""

import os

from torch import Tensor

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import energy, phase_clock
from bsrbench.harness.meters.machine_load import Disturbance, LoadWatch
from bsrbench.harness.profiler.profiled_step import job_and_batch, until_taken
from bsrbench.harness.records.pass_readings import (
    PassReadings,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.harness.training.compiled_forward import CompiledForward
from bsrbench.harness.training.evaluation import evaluate_batch
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.training_step import training_step

COMPILE_SECONDS = "compile_seconds"
PHASES = ("forward", "backward", "optimizer")
PHASE_STEPS = 2  # timed by phase in each visit; synchronising within a step may slow it


def clock_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Time whole steps, then steps by phase, then evaluation, each in a separate loop."""
    if spec.profile is None:
        raise ValueError("a trial without a profile part has no clock pass")
    job, batch = job_and_batch(spec, load)
    with LoadWatch() as watch:
        timed, warmup_steps = _loops(job, batch, spec.profile)
    slowed = [f"the device is slowed down: {why}" for why in job.device.slowdowns()]
    circumstances = PassReadings(
        {},
        notes=notes_of(NoteKind.TIMING, [*watch.disturbance.notes(), *slowed]),
        detail=Sidecar(clock=_detail(watch.disturbance, warmup_steps)),
    )
    return joined_readings([timed, circumstances])


def _detail(seen: Disturbance, warmup_steps: int) -> ClockDetail:
    """Return the circumstances of one visit."""
    return ClockDetail(
        warmup_steps=(warmup_steps,),
        outside_share=(seen.outside_share,),
        stolen_share=(seen.stolen_share,),
        throttled=(None if seen.throttled is None else tuple(seen.throttled),),
        governor=(seen.governor,),
        cores=(tuple(sorted(os.sched_getaffinity(0))),),
    )


def _loops(job: Job, batch: tuple[Tensor, Tensor], settings: Profile) -> tuple[PassReadings, int]:
    """Time the loops one after another; return their times and the number of warm-up steps."""
    wait = job.device.synchronise
    compiled = job.forward if isinstance(job.forward, CompiledForward) else None
    least = max(1, settings.warmup_steps) if compiled else settings.warmup_steps
    settling = _settle(job, batch)
    warmup = phase_clock.warm_up(lambda: training_step(job, *batch), wait, least)
    compiling = {COMPILE_SECONDS: [compiled.seconds()]} if compiled else {}
    whole = _whole_steps(job, batch, settings.steps)
    phases = [until_taken(job, lambda: _phases(job, batch)) for _ in range(PHASE_STEPS)]
    by_phase = {f"{phase}_seconds": [seconds[phase] for seconds in phases] for phase in PHASES}
    job.model.eval()
    evaluate_batch(job, batch[0])
    evaluation = phase_clock.seconds_each(
        lambda: evaluate_batch(job, batch[0]), settings.steps, wait
    )
    rest = PassReadings(compiling | by_phase | {"evaluation_seconds": evaluation})
    return joined_readings([whole, rest]), settling + len(warmup)


def _settle(job: Job, batch: tuple[Tensor, Tensor]) -> int:
    """Run steps in fp16 until the loss scale is small enough; return how many were run."""
    if job.scaler is None:
        return 0
    until_taken(job, lambda: training_step(job, *batch))
    return job.skipped_steps() + 1


def _whole_steps(job: Job, batch: tuple[Tensor, Tensor], steps: int) -> PassReadings:
    """Time steps; the energy counter is read before the first step and after the last one."""
    samples: list[float] = []
    before, wait = job.skipped_steps(), job.device.synchronise

    def step() -> list[float]:
        return phase_clock.seconds_each(lambda: training_step(job, *batch), 1, wait)

    def loop() -> None:
        for _ in range(steps):
            samples.extend(until_taken(job, step))

    try:
        used = energy.joules(loop, job.device.energy_counter())
        ran = steps + job.skipped_steps() - before
        joules = PassReadings({"joules_per_image": [used / (ran * len(batch[1]))]})
    except Unreadable as reason:
        joules = absent(AbsenceKind.UNREADABLE, str(reason), "joules_per_image")
        if not samples:
            loop()
    return joined_readings([PassReadings({"step_seconds": samples}), joules])


def _phases(job: Job, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return the seconds of each phase of one step."""
    phases = phase_clock.PhaseClock(job.device.synchronise)
    training_step(job, *batch, enter_phase=phases.enter_phase)
    phases.stop()
    return phases.seconds
