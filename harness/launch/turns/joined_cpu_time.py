"""Add the CPU time of a trial to the result of its clock pass."""

from msgspec.structs import replace

from bsrbench.harness.profiler.cpu_pass import COUNTED, CPU_SECONDS
from bsrbench.harness.records.pass_readings import absent, joined_readings
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult

NO_PROCESSES = "passes ran in one process, whose threads may spin while they wait"


def failed_measuring(cpu: PassResult) -> PassResult:
    """Return the failure of a pass of CPU time as the failure of a trial's timing.

    The reason names the pass, unless it is about the method: it is unsupported or diverges.
    """
    if cpu.status in {Status.UNSUPPORTED, Status.DIVERGED}:
        return cpu
    return replace(cpu, reason=f"measuring CPU time: {cpu.reason}")


def with_cpu_time(clock: PassResult, cpu: PassResult | None) -> PassResult:
    """Return the visits of a trial and the measurements of its CPU time as one result.

    Args:
        clock: all visits by the clock; returned as it is if they failed.
        cpu: the CPU time, which was measured; ``None`` if there are no processes for it.
    """
    if clock.status is not Status.COMPLETED:
        return clock
    if cpu is None:
        missing = absent(AbsenceKind.NOT_AVAILABLE, NO_PROCESSES, CPU_SECONDS, *COUNTED)
        return replace(clock, reading=joined_readings([clock.readings(), missing]))
    timed, more = clock.readings(), cpu.readings()
    conditions = timed.detail.clock or ClockDetail()
    added = more.detail.clock or ClockDetail()
    generations = {**conditions.generations, **added.generations}
    joined = joined_readings([timed, replace(more, detail=Sidecar(), notes=())])
    detail = replace(timed.detail, clock=replace(conditions, generations=generations))
    return replace(
        clock,
        reading=replace(joined, detail=detail),
        began_at=min(filter(None, (clock.began_at, cpu.began_at)), default=None),
        seconds=(clock.seconds or 0.0) + (cpu.seconds or 0.0),
    )
