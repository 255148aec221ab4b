"""The clock pass: short visits in turns with other trials, timed without any other meter."""

import itertools
import os
import time
from collections.abc import Callable, Iterator

import torch

from bsrbench.harness.meters.scheduling import USUAL, schedule_before_others
from bsrbench.harness.profiler.clock_visits import (
    END,
    ENERGY,
    EVALUATION,
    PHASES,
    STEPS,
    ClockVisits,
    Visited,
)
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.pass_readings import PassReadings, joined_readings, notes_of
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader

# Gets what is known of the last visit, waits for the next turn, and returns the kind of its visit.
Turn = Callable[[Visited], str]
# An evaluation follows every third round of whole steps, and steps by phase every sixth one.
EVALUATION_EVERY, PHASES_EVERY = 3, 6


def kinds_in_round(number: int) -> list[str]:
    """Return the kinds of visits in a round of a generation; the first round has number 0."""
    return [
        STEPS,
        *([EVALUATION] if number % EVALUATION_EVERY == 0 else []),
        *([PHASES] if number % PHASES_EVERY == 0 else []),
    ]


def kinds_after_rounds(*, energy: bool) -> list[str]:
    """Return the kinds of visits that a member gets once, after the rounds of a generation.

    Args:
        energy: whether the device has a counter of energy.
    """
    return [ENERGY] if energy else []


def alone(rounds: int) -> Turn:
    """Return the turns of a trial that is timed alone in this process."""
    rounds_of_kinds = (kinds_in_round(number) for number in range(rounds))
    kinds: Iterator[str] = itertools.chain(*rounds_of_kinds, [END])
    return lambda _: next(kinds)


def clock_pass(spec: TrialSpec, load: Loader, turn: Turn | None = None) -> PassReadings:
    """Build the trial and warm it up; then make a visit in each turn until the turns end.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        turn: waits for the next turn; the process is then the pass's own, and is scheduled before
            others. By default the trial is timed alone, and the scheduling stays as it is.
    """
    if spec.profile is None:
        raise ValueError("a trial without a profile part has no clock pass")
    in_turns = turn is not None
    turn = turn or alone(spec.profile.rounds)
    job, batch = job_and_batch(spec, load)
    visits = ClockVisits(job, batch, spec.profile)
    scheduling = scheduling_of_visits(spec) if in_turns else USUAL
    seen, used = Visited(energy=visits.has_energy_counter()), time.process_time()
    while (kind := turn(seen)) != END:
        seconds, before = visits.visit(kind), used
        used = time.process_time()
        seen = Visited(seconds, used - before, seen.energy)
    slowed = [f"the device is slowed down: {why}" for why in job.device.slowdowns()]
    detail = ClockDetail(
        warmup_steps=(visits.warmup_steps,),
        cores=(tuple(sorted(os.sched_getaffinity(0))),),
        steps_per_visit=visits.steps,
        scheduling=(scheduling,),
    )
    circumstances = PassReadings(
        {}, notes=notes_of(NoteKind.TIMING, slowed), detail=Sidecar(clock=detail)
    )
    return joined_readings([visits.readings(), circumstances])


def scheduling_of_visits(spec: TrialSpec) -> str:
    """Schedule this process before others; the threads of a GPU's pass only launch kernels."""
    if spec.workload.device != "cpu":
        return USUAL
    return schedule_before_others(torch.get_num_threads())
