"""Why a metric that was not measured has no value."""

from collections.abc import Callable

from bsrbench.harness.profiler.memory_pass import NOT_COUNTED
from bsrbench.harness.records.metric import Metric, Need
from bsrbench.harness.records.remarks import Absence, AbsenceKind
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.visible_text import visible

NOT_REQUESTED, NOT_AVAILABLE = AbsenceKind.NOT_REQUESTED, AbsenceKind.NOT_AVAILABLE
ONE_SPLIT = Absence(
    AbsenceKind.NOT_READ, "a trial evaluates one split, and this trial evaluates the other one"
)
# For each need of a metric: whether a trial meets it, and the reason for no value if it does not.
NEEDS: dict[Need, tuple[Callable[[TrialSpec], bool], Absence]] = {
    "CPU": (
        lambda spec: spec.workload.device == "cpu",
        Absence(
            NOT_AVAILABLE,
            "the host's threads wait for the device, so their CPU time says nothing about the step",
        ),
    ),
    "uncompiled step": (
        lambda spec: not spec.workload.compiled_step,
        Absence(NOT_AVAILABLE, NOT_COUNTED),
    ),
    "compiled step": (
        lambda spec: spec.workload.compiled_step,
        Absence(NOT_REQUESTED, "the step is not compiled"),
    ),
    "caching allocator": (
        lambda spec: spec.workload.device != "cpu",
        Absence(NOT_AVAILABLE, "the CPU's allocator keeps no reserve"),
    ),
    "NVIDIA GPU": (
        lambda spec: spec.workload.device.partition(":")[0] == "cuda",
        Absence(NOT_AVAILABLE, "allocated memory is predicted for NVIDIA GPUs only"),
    ),
    "several tasks": (
        lambda spec: spec.workload.multitask is not None,
        Absence(NOT_REQUESTED, "there is one task"),
    ),
    "experts": (
        lambda spec: bool(spec.workload.multitask and spec.workload.multitask.expert_blocks),
        Absence(NOT_REQUESTED, "no block has experts"),
    ),
    "curve": (
        lambda spec: bool(spec.training and spec.training.evaluate_every),
        Absence(NOT_REQUESTED, "evaluate_every is not set"),
    ),
    "test split": (
        lambda spec: bool(spec.training and spec.training.evaluate == "test"),
        ONE_SPLIT,
    ),
    "validation split": (
        lambda spec: bool(spec.training and spec.training.evaluate == "validation"),
        ONE_SPLIT,
    ),
    "fp16": (
        lambda spec: spec.workload.precision == "fp16",
        Absence(NOT_REQUESTED, "only fp16 skips optimizer steps"),
    ),
}


def why_empty(metric: Metric, spec: TrialSpec, failure: str) -> Absence:
    """Return why a metric has no value in a trial's record, if no pass gave a reason.

    Args:
        metric: the metric.
        spec: the trial.
        failure: why the trial did not complete; empty if it did.
    """
    if (why := _why_not_requested(metric, spec)) is not None:
        return why
    if failure:
        return Absence(AbsenceKind.FAILED, visible(failure))
    device = spec.workload.device
    return Absence(NOT_AVAILABLE, f"this meter does not exist for {device}")


def _instead(spec: TrialSpec) -> str:
    """Return which row's training is the same as the training of this trial's row, if any."""
    same = spec.profile and spec.profile.trains_as
    return f"; its row's training is the same as that of {same} by construction" if same else ""


def _why_not_requested(metric: Metric, spec: TrialSpec) -> Absence | None:
    """Return why the spec of a trial does not request a metric; ``None`` if it does."""
    if metric.is_by_seed() and spec.training is None:
        return Absence(NOT_REQUESTED, f"this trial only profiles{_instead(spec)}")
    if not metric.is_by_seed() and spec.profile is None:
        return Absence(
            NOT_REQUESTED, "this trial only trains; another trial of the row has the profile"
        )
    profile = None if metric.is_by_seed() else spec.profile
    if profile and profile.only_predict and "estimate" not in metric.measured_by:
        return Absence(NOT_REQUESTED, "this trial only predicts")
    lacking = (NEEDS[need][1] for need in metric.needs if not NEEDS[need][0](spec))
    if (why := next(lacking, None)) is not None:
        return why
    untimed = profile is not None and profile.rounds == 0
    return Absence(NOT_REQUESTED, "rounds is 0") if untimed and metric.is_timed() else None
