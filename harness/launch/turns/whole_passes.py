"""A resident without a process of its own: it runs whole clock passes and hands out their times."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from bsrbench.harness.profiler.clock_visits import STEPS, Visited
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult, VisitResult


class WholePasses:
    """Runs a clock pass when it is made, and again whenever its times are used up.

    Args:
        perform: runs a clock pass.

    Attributes:
        cores: the cores to which it is bound: none in particular.
        ready: how the first pass ended.
    """

    cores: tuple[int, ...] = ()

    def __init__(self, perform: Callable[[], PassResult]) -> None:
        self._perform = perform
        self._result = perform()
        self._left = self._seconds(self._result)
        self.ready = self._answer()

    def visit(self, kind: str) -> VisitResult:
        """Return the next time of whole steps; do nothing for another kind of visit."""
        if kind != STEPS:
            return self._answer()
        if not self._left:
            self._again()
        return self._answer(self._left.pop(0) if self._left else None)

    def end(self) -> PassResult:
        """Return all passes as one."""
        return self._result

    def close(self) -> None:
        """Do nothing: nothing runs."""

    def _again(self) -> None:
        more = self._perform()
        self._left = self._seconds(more)
        if more.status is not Status.COMPLETED:
            self._result = more
            return
        before, after = self._result.readings(), more.readings()
        joined = {
            name: [*_samples(before, name), *_samples(after, name)] for name in after.measurements
        }
        self._result = replace(more, reading=replace(before, measurements=joined))

    def _answer(self, seconds: float | None = None) -> VisitResult:
        result = self._result
        return VisitResult(result.status, result.reason, result.bad_input, None, Visited(seconds))

    @staticmethod
    def _seconds(result: PassResult) -> list[float]:
        return list(_samples(result.readings(), "step_seconds"))


def _samples(reading: PassReadings, metric: str) -> Sequence[int | float]:
    value = reading.measurements.get(metric)
    return value if isinstance(value, Sequence) else ()
