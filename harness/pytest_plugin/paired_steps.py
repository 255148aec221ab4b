"""Time steps in this process, each right after a step of the baseline."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bsrbench import methods
from bsrbench.harness.meters import phase_clock
from bsrbench.harness.profiler.profiled_step import job_and_batch, until_taken
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.training_step import training_step

WARMUP_STEPS = 2  # minimum; the first step creates optimizer state and library kernels
WARMUP_ROUNDS = 1  # in turns; each trial then starts with the caches that the other leaves


class Steps:
    """Runs steps of one trial and stores the seconds of each.

    Args:
        spec: the trial.

    Attributes:
        seconds: time of each step that ``one`` has run.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self.seconds: list[float] = []
        self._job, self._batch = job_and_batch(spec, methods.load)
        self._job.current.keep_all()
        self._states = max(1, len(self._job.current.states))

    def warm_up(self) -> None:
        """Run untimed steps until they get no faster, like the clock pass."""
        if self._job.scaler is not None:
            until_taken(self._job, self._cycle)
        phase_clock.warm_up(self._cycle, self._job.device.synchronise, WARMUP_STEPS)

    def one(self) -> None:
        """Run and time one step, with no other meter attached.

        If the method has states, it is the mean of a step in each of them.
        """
        wait = self._job.device.synchronise
        (seconds,) = until_taken(self._job, lambda: phase_clock.seconds_each(self._cycle, 1, wait))
        self.seconds.append(seconds / self._states)

    def _cycle(self) -> None:
        for _ in range(self._states):
            training_step(self._job, *self._batch)
            self._job.current.enter_next()


def take_turns(
    spec: TrialSpec, beside: TrialSpec | None, benchmark: Any, rounds: int
) -> tuple[list[float], list[float]]:
    """Let pytest-benchmark time steps, and return their seconds and the baseline's.

    Both use our own clock, whatever timer pytest-benchmark uses. If benchmarks are disabled, one
    step runs and nothing is timed.

    Args:
        spec: the trial.
        beside: the baseline that it takes turns with; ``None`` if there is none.
        benchmark: pytest-benchmark's fixture.
        rounds: timed steps.
    """
    with _leaving_no_trace(spec.workload.threads):
        ours = Steps(spec)
        theirs = None if beside is None else Steps(beside)
        for steps in (ours, theirs):
            if benchmark.enabled and steps is not None:
                steps.warm_up()
        benchmark.pedantic(
            ours.one,
            setup=None if theirs is None else theirs.one,
            rounds=rounds,
            warmup_rounds=WARMUP_ROUNDS,
        )
    if not benchmark.enabled:
        return [], []
    timed = slice(WARMUP_ROUNDS, WARMUP_ROUNDS + rounds)
    return ours.seconds[timed], [] if theirs is None else theirs.seconds[timed]


@contextmanager
def _leaving_no_trace(threads: int) -> Iterator[None]:
    """Set torch's threads, and restore them and the random generator for later tests."""
    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
