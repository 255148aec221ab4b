"""Steps timed in this process, each right after a step of the baseline."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import methods
from harness.meters import clock
from harness.profiler.step import job_and_batch
from harness.spec import TrialSpec
from harness.training import training_step

WARMUP_ROUNDS = 2  # the first makes the optimizer's state and the libraries' kernels


class Steps:
    """Does steps of one trial and keeps the seconds of each.

    Args:
        spec: the trial.

    Attributes:
        seconds: of all steps so far.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self.seconds: list[float] = []
        self._job, self._batch = job_and_batch(spec, methods.load)

    def one(self) -> None:
        """Do one step, with no meter attached but the clock."""
        self.seconds += clock.seconds_each(
            lambda: training_step(self._job, *self._batch), 1, self._job.device.synchronise
        )


def take_turns(
    spec: TrialSpec, beside: TrialSpec | None, benchmark: Any, rounds: int
) -> tuple[list[float], list[float]]:
    """Let pytest-benchmark time steps, and return their seconds and those of the baseline's.

    Both are by one clock, whatever timer pytest-benchmark was given. Where benchmarks are
    disabled a step runs once and nothing is timed.

    Args:
        spec: the trial.
        beside: what it takes turns with; ``None`` leaves it alone.
        benchmark: pytest-benchmark's fixture.
        rounds: timed steps.
    """
    with _leaving_no_trace(spec.workload.threads):
        ours = Steps(spec)
        theirs = None if beside is None else Steps(beside)
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
    """Set torch's threads; then put them and its generator back, for the tests that follow."""
    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
