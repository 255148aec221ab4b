"""The passes of a trial, and how each of them can end."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from msgspec.structs import replace

from bsrbench.harness.devices import cuda_faults, open_device
from bsrbench.harness.devices.gpu_properties import gpu_properties
from bsrbench.harness.devices.numeric_settings import decided, settings
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Method, Unsupported
from bsrbench.harness.plain_data import fault_in, plain_table, plain_text
from bsrbench.harness.predict.batch_search import BatchSearch, predicted_search
from bsrbench.harness.predict.estimate import estimate_pass
from bsrbench.harness.predict.memory_budget import fitting
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.predict.trial_costs import step_costs
from bsrbench.harness.profiler.calibration_pass import calibration_pass
from bsrbench.harness.profiler.clock_pass import Turn, clock_pass
from bsrbench.harness.profiler.cpu_pass import cpu_pass
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import allocated_pass, memory_pass
from bsrbench.harness.profiler.process_pass import known_process_pass, process_pass
from bsrbench.harness.profiler.speed_pass import speed_pass
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.records.device_examination import last_examination
from bsrbench.harness.records.metric_bounds import fault_of_value
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Absence, AbsenceKind
from bsrbench.harness.records.trial_record import Status, utc_now
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.compiled_forward import why_not_compiled
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.training.training_step import Diverged
from bsrbench.harness.trial.pass_result import (
    ALL_PARTS,
    Answer,
    CheckParts,
    CheckResult,
    Kind,
    PassResult,
    SettingsResult,
)
from bsrbench.harness.workload import models, tasks, weights

ESTIMATE, SPEED, TRAINING = "estimate", "speed", "training"
CALIBRATION = "calibration"
PASSES: dict[str, Callable[..., PassReadings]] = {
    "clock": clock_pass,
    "cpu_time": cpu_pass,
    "memory": memory_pass,
    "allocated": allocated_pass,
    "process": process_pass,
    "known_process": known_process_pass,
    "flops": flop_pass,
    ESTIMATE: estimate_pass,
    SPEED: speed_pass,
    CALIBRATION: calibration_pass,
    TRAINING: training_pass,
}
CLOCK, CPU_TIME = "clock", "cpu_time"
SPLITS = ("train", "validation", "test")
PROFILE_PASSES = ("memory", "process", "flops", ESTIMATE)
OUT_OF_MEMORY_MESSAGES = (
    *("can't allocate memory", "not enough memory", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)


class CostsResult(Answer, frozen=True, forbid_unknown_fields=True):
    """The predicted cost of one step for each of several trials."""

    costs: tuple[StepCost, ...] = ()


class BatchSearchResult(Answer, frozen=True, forbid_unknown_fields=True):
    """The largest batch that fits by prediction.

    Attributes:
        found: the result of the search; always present if it completed.
        free_bytes: memory that is free on a GPU for a process with a CUDA context, before any
            tensor is made; ``None`` for a CPU and where there is no such GPU.
    """

    found: BatchSearch | None = None
    free_bytes: int | None = None


def timed(run: Callable[[], PassResult]) -> PassResult:
    """Run a pass, and return its result with its start time and its duration."""
    began_at, began = utc_now(), time.monotonic()
    result = run()
    return replace(result, began_at=began_at, seconds=time.monotonic() - began)


def passes_of(spec: TrialSpec) -> list[str]:
    """Return the names of a trial's passes, in the order in which they run."""
    if spec.profile and spec.profile.only_predict:
        return [ESTIMATE, *([TRAINING] if spec.training else [])]
    timed = [CLOCK] if spec.profile and spec.profile.rounds else []
    profiled = list(PROFILE_PASSES) if spec.profile else []
    return [*timed, *profiled, *([TRAINING] if spec.training else [])]


def perform(
    pass_name: str,
    spec: TrialSpec,
    checkpoint: CheckpointRequest | None,
    load: Loader,
    turn: Turn | None = None,
) -> PassResult:
    """Run one pass in this process and return how it ended; never raises.

    Args:
        pass_name: one of ``PASSES``.
        spec: the trial.
        checkpoint: where and how often a training pass saves a checkpoint.
        load: returns the method of a name.
        turn: waits for the next turn of a clock pass; by default the trial is timed alone.
    """
    torch.set_num_threads(spec.workload.threads)
    before = decided(spec.workload.device)
    loaded: list[Method] = []
    try:
        load_fitted = fitting(spec, load)

        def load_and_keep(name: str, **options: Any) -> Method:
            loaded.append(load_fitted(name, **options))
            return loaded[-1]

        run = PASSES[pass_name]
        if pass_name == TRAINING:
            run = partial(training_pass, checkpoint=checkpoint)
        if turn is not None:
            run = partial(run, turn=turn)
        reading = _without_what_no_file_holds(run(spec, load_and_keep))
        kind = torch.device(spec.workload.device).type
        device = _described(pass_name, spec.workload.device)
        facts: dict[str, Any] = {}
        for method in loaded[-1:]:
            facts = plain_table(method.environment(kind), "what environment() returns")
        after = decided(spec.workload.device)
        own = {name: value for name, value in after.items() if value != before[name]}
        return PassResult(reading=reading, device=device, method=facts, set_by_method=own)
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome here
        traceback.print_exc()  # into the pass's log
        return failed(PassResult, error)


def _described(pass_name: str, name: str) -> Mapping[str, Any]:
    """Return the description of the device; empty if it is not here and nothing runs on it."""
    try:
        device = open_device(name).describe()
    except BadInput:
        if pass_name == ESTIMATE:
            return {}
        raise
    return device | last_examination(torch.device(name).type, device)


def _without_what_no_file_holds(reading: PassReadings) -> PassReadings:
    """Return a reading without values that are infinite or NaN; these become rejected."""
    faults = {
        name: fault_of_value(name, value)
        for name, value in reading.measurements.items()
        if fault_in(value)
    }
    rejected = {
        name: Absence(AbsenceKind.REJECTED, f"was measured, and {fault}")
        for name, fault in faults.items()
    }
    kept = {name: value for name, value in reading.measurements.items() if name not in faults}
    return replace(reading, measurements=kept, missing={**reading.missing, **rejected})


def read_settings(device: str, load: Loader) -> SettingsResult:  # noqa: ARG001 - a child's function
    """Return the settings of this process that affect numbers, before any method is loaded."""
    return SettingsResult(settings=settings(device))


def predict_costs(specs: Sequence[TrialSpec], load: Loader) -> CostsResult:
    """Predict the cost of one step of each trial without executing it."""
    return CostsResult(costs=step_costs(specs, load))


def search_batch(spec: TrialSpec, limit: int, load: Loader) -> BatchSearchResult:
    """Search for the largest batch whose predicted peak is within ``limit``; never raises."""
    try:
        found = predicted_search(spec, limit, load)
        return BatchSearchResult(found=found, free_bytes=_free_bytes(spec.workload.device))
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome here
        traceback.print_exc()  # into the pass's log
        return failed(BatchSearchResult, error)


def _free_bytes(device: str) -> int | None:
    if gpu_properties(torch.device(device)) is None:
        return None
    return open_device(device).free_bytes()


def failed(kind: type[Kind], error: BaseException) -> Kind:
    """Return the outcome that an error means, as an answer of the given kind."""
    answer = failure(error)
    return kind(answer.status, answer.reason, answer.bad_input)


def failure(error: BaseException) -> Answer:
    """Return the outcome that an error means; its text is escaped and truncated."""
    text = plain_text(error)
    if isinstance(error, BadInput):
        return Answer(Status.CRASHED, text, bad_input=True)
    if isinstance(error, Unsupported):
        return Answer(Status.UNSUPPORTED, text)
    if isinstance(error, Exception) and (reason := why_not_compiled(error)) is not None:
        return Answer(Status.UNSUPPORTED, plain_text(reason))
    if isinstance(error, Diverged):
        return Answer(Status.DIVERGED, text)
    meaning = plain_text(cuda_faults.explained(text))
    kind = plain_text(type(error).__name__)
    if _is_out_of_memory(error, text):
        return Answer(Status.OUT_OF_MEMORY, meaning or (text.splitlines() or [kind])[0])
    return Answer(Status.CRASHED, meaning or f"{kind}: {text}{_place(error)}")


def _place(error: BaseException) -> str:
    """Return where an error was raised, in brackets; empty if that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" (at {plain_text(frames[-1].filename.rpartition('/')[2])}:{frames[-1].lineno})"


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY_MESSAGES)


def check(spec: TrialSpec, load: Loader, parts: CheckParts = ALL_PARTS) -> CheckResult:
    """Check for errors that would make every pass of a trial fail, and fetch its weights.

    Runs in a separate process before anything is measured.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        parts: what to look at; trials of the same model or data need one check of it.
    """
    workload = spec.workload
    try:
        open_device(workload.device)
        method = load(spec.method, **spec.options)
        if spec.training is not None and parts.data:
            tasks.fetch(workload)
        if parts.model:
            _check_model(spec)
        images = {}
        if spec.training is not None and parts.data:
            loaded = tasks.load(workload, spec.seed)
            images = {n: sum(len(getattr(data, n).labels) for data in loaded) for n in SPLITS}
        kind = torch.device(workload.device).type
        kernels = tuple(plain_text(name) for name in method.kernels_to_compile(kind))
    except Exception as error:  # noqa: BLE001 - as in perform
        return failed(CheckResult, error)
    return CheckResult(images=images, kernels_to_compile=kernels)


def _check_model(spec: TrialSpec) -> None:
    """Make the model of a trial, with its weights.

    Raises:
        BadInput: the model is unknown or does not fit, or its weights are not available.
    """
    workload = spec.workload
    weights.fetch(workload.weights)
    classes = tasks.classes(workload)
    models.outline(workload, classes)  # finds most errors, without drawing weights
    if workload.weights != "random":
        models.build(workload, classes, spec.seed)
