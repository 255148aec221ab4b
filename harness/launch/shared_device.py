"""Decide which passes without a clock may run on a device at the same time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bsrbench.harness.profiler.process_pass import THIS_PROCESS
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.trial_passes import ESTIMATE

PROCESS = "process"
ALONE = None  # the needs of a pass that may have no other pass beside it
# A prediction leaves out workspaces (measured: at most 0.15 of the counted peak) and the code that
# a process loads onto a device (measured: about 0.5 GiB on CUDA).
WORKSPACES, OWN_BYTES = 1.25, 2**30


class SharedDevice:
    """Lets passes run side by side while their predicted memory fits and no result can change.

    The process pass reads the memory of this process where the driver reports it. Elsewhere it
    reads the use of the whole device, which every neighbour changes. So the first process pass on
    a GPU runs alone, and the others may have neighbours only if it has read its own process. On a
    CPU the kernel always reports each process.

    Args:
        free_bytes: free memory of the device; ``None`` if it is not known: then each pass is alone.
        peaks: row id -> predicted peak in bytes; a pass of another row is alone.
    """

    def __init__(self, free_bytes: int | None, peaks: Mapping[str, int]) -> None:
        self._free, self._peaks = free_bytes, peaks
        self._changed = threading.Condition()
        self._running: list[float | None] = []
        self._waiting_alone = 0
        self._reports_processes = False

    def perform(self, pass_name: str, spec: TrialSpec, run: Callable[[], PassResult]) -> PassResult:
        """Run a pass as soon as it may run; run it again alone if neighbours can have changed it.

        Args:
            pass_name: the name of a pass without a clock.
            spec: its trial.
            run: runs the pass and returns its result.
        """
        needs = self._needs(pass_name, spec)
        with self._admitted(needs):
            result = run()
        if pass_name == PROCESS and not _on_cpu(spec):
            self._reports_processes = _read_own_process(result)
        if needs is not ALONE and _can_be_changed(pass_name, spec, result):
            with self._admitted(ALONE):
                result = run()
        return result

    def _needs(self, pass_name: str, spec: TrialSpec) -> float | None:
        """Return the memory that a pass may need, in bytes, or ``ALONE``."""
        peak = self._peaks.get(spec.row_id())
        if pass_name == ESTIMATE:
            return OWN_BYTES
        if pass_name == PROCESS and not (_on_cpu(spec) or self._reports_processes):
            return ALONE
        return ALONE if self._free is None or peak is None else WORKSPACES * peak + OWN_BYTES

    @contextmanager
    def _admitted(self, needs: float | None) -> Iterator[None]:
        """Wait until a pass may run, and count it as running until it has ended."""
        with self._changed:
            self._waiting_alone += needs is ALONE
            try:
                self._changed.wait_for(lambda: self._may_run(needs))
            finally:
                self._waiting_alone -= needs is ALONE
            self._running.append(needs)
        try:
            yield
        finally:
            with self._changed:
                self._running.remove(needs)
                self._changed.notify_all()

    def _may_run(self, needs: float | None) -> bool:
        if not self._running:
            return True
        beside = [each for each in self._running if each is not ALONE]
        if needs is ALONE or self._waiting_alone or len(beside) < len(self._running):
            return False
        return self._free is None or sum(beside) + needs <= self._free


def _on_cpu(spec: TrialSpec) -> bool:
    return spec.workload.device == "cpu"


def _read_own_process(result: PassResult) -> bool:
    return result.readings().detail.process_read_from == THIS_PROCESS


def _can_be_changed(pass_name: str, spec: TrialSpec, result: PassResult) -> bool:
    """Tell whether neighbours can have changed the result of a pass."""
    if result.status is Status.OUT_OF_MEMORY:
        return True
    return pass_name == PROCESS and not _on_cpu(spec) and not _read_own_process(result)
