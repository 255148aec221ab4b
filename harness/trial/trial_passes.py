"""One trial: its passes, what can happen to each, and the record they make together."""

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from bsrbench.harness.devices import open_device
from bsrbench.harness.devices.numeric_settings import decided, settings
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Method, Unsupported
from bsrbench.harness.plain_data import plain_table, plain_text
from bsrbench.harness.predict.estimate import estimate_pass
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import allocated_pass, memory_pass
from bsrbench.harness.profiler.process_pass import known_process_pass, process_pass
from bsrbench.harness.profiler.speed_pass import speed_pass
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status, utc_now
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.compiled_forward import why_not_compiled
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.training_step import Diverged
from bsrbench.harness.workload import models, tasks, weights

ESTIMATE, SPEED, TRAINING = "estimate", "speed", "training"
PASSES: dict[str, Callable[..., PassReadings]] = {
    "clock": clock_pass,
    "memory": memory_pass,
    "allocated": allocated_pass,
    "process": process_pass,
    "known_process": known_process_pass,
    "flops": flop_pass,
    ESTIMATE: estimate_pass,
    SPEED: speed_pass,
    TRAINING: training_pass,
}
CLOCK = "clock"
SPLITS = ("train", "validation", "test")
IMAGES = "images"  # of each split, as ``check`` counts them
SETTINGS = "settings"
PROFILE_PASSES = ("memory", "process", "flops", ESTIMATE)
OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class PassResult:
    """How one pass ended and what it read, as plain values that go through a pipe.

    Attributes:
        status: a ``Status`` value.
        reason: why, if it did not complete.
        bad_input: the reason is a message for the person at the keyboard.
        reading: the fields of a ``PassReadings``.
        device: what the device says of itself.
        method: what the method says its numbers depend on (``Method.environment``).
        start_seconds: from asking for the pass to its first line running.
        set_by_method: settings that decide numbers and are not as they were before the method was
            loaded, as they are at the end of the pass.
        began_at: when it was asked for, UTC, ISO 8601; ``None`` where nobody looked at the clock.
        seconds: from then to its answer, by a clock that nobody sets.
    """

    status: str = Status.COMPLETED
    reason: str = ""
    bad_input: bool = False
    reading: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    start_seconds: float | None = None
    set_by_method: dict[str, str] = field(default_factory=dict)
    began_at: str | None = None
    seconds: float | None = None


def timed(run: Callable[[], PassResult]) -> PassResult:
    """Run a pass, and return its result with when that began and how long it took."""
    began_at, began = utc_now(), time.monotonic()
    result = run()
    return replace(result, began_at=began_at, seconds=time.monotonic() - began)


def passes_of(spec: TrialSpec) -> list[str]:
    """Return the passes a trial consists of, in the order they run."""
    if spec.profile and spec.profile.only_predict:
        return [ESTIMATE, *([TRAINING] if spec.training else [])]
    timed = [CLOCK] if spec.profile and spec.profile.rounds else []
    profiled = list(PROFILE_PASSES) if spec.profile else []
    return [*timed, *profiled, *([TRAINING] if spec.training else [])]


def perform(
    pass_name: str, spec_json: str, keeping: dict[str, Any], load: Loader
) -> dict[str, Any]:
    """Run one pass in this process and return a ``PassResult`` as a dictionary; never raises.

    Args:
        pass_name: one of ``PASSES``.
        spec_json: the trial.
        keeping: arguments of the training pass about its checkpoint.
        load: turns a method's name into a method.
    """
    spec = TrialSpec.model_validate_json(spec_json)
    torch.set_num_threads(spec.workload.threads)
    before = decided(spec.workload.device)
    loaded: list[Method] = []

    def load_and_keep(name: str, **options: Any) -> Method:
        loaded.append(load(name, **options))
        return loaded[-1]

    try:
        more = keeping if pass_name == TRAINING else {}
        reading = PASSES[pass_name](spec, load_and_keep, **more)
        device = open_device(spec.workload.device).describe()
        kind = torch.device(spec.workload.device).type
        facts: dict[str, Any] = {}
        for method in loaded[-1:]:
            facts = plain_table(method.environment(kind), "what environment() returns")
        after = decided(spec.workload.device)
        own = {name: value for name, value in after.items() if value != before[name]}
        result = PassResult(reading=asdict(reading), device=device, method=facts, set_by_method=own)
        return asdict(result)
    except Exception as error:  # noqa: BLE001 - every way to fail becomes an outcome here
        traceback.print_exc()  # into the pass's log
        return asdict(failure(error))


def read_settings(device: str, load: Loader) -> dict[str, Any]:  # noqa: ARG001 - a child's function
    """Return the settings that decide numbers in this process, as a reading, before any method."""
    return {"reading": {SETTINGS: settings(device)}}


def failure(error: BaseException) -> PassResult:
    """Return the outcome that an error means, its text visible and not too long."""
    said = plain_text(error)
    if isinstance(error, BadInput):
        return PassResult(Status.CRASHED, said, bad_input=True)
    if isinstance(error, Unsupported):
        return PassResult(Status.UNSUPPORTED, said)
    if isinstance(error, Exception) and (reason := why_not_compiled(error)) is not None:
        return PassResult(Status.UNSUPPORTED, plain_text(reason))
    if isinstance(error, Diverged):
        return PassResult(Status.DIVERGED, said)
    if _is_out_of_memory(error, said):
        return PassResult(Status.OUT_OF_MEMORY, (said.splitlines() or [type(error).__name__])[0])
    kind = plain_text(type(error).__name__)
    return PassResult(Status.CRASHED, f"{kind}: {said}{_place(error)}")


def _place(error: BaseException) -> str:
    """Return where an error was raised, in brackets; empty where that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" (at {plain_text(frames[-1].filename.rpartition('/')[2])}:{frames[-1].lineno})"


def _is_out_of_memory(error: BaseException, said: str) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in said for part in OUT_OF_MEMORY_MESSAGES)


def check(spec_json: str, load: Loader) -> dict[str, Any]:
    """Look for what would make every pass of a trial fail; fetch its weights.

    Runs in a process of its own before anything is measured. Returns a ``PassResult``.
    """
    spec = TrialSpec.model_validate_json(spec_json)
    workload = spec.workload
    try:
        open_device(workload.device)
        load(spec.method, **spec.options)
        weights.fetch(workload.weights)
        if spec.training is not None:
            tasks.fetch(workload)
        classes = tasks.classes(workload)
        models.outline(workload, classes)  # most of the errors, and no numbers to draw
        if workload.weights != "random":
            models.build(workload, classes, spec.seed)
        found = {}
        if spec.training is not None:
            loaded = tasks.load(workload, spec.seed)
            found = {n: sum(len(getattr(one, n).labels) for one in loaded) for n in SPLITS}
    except Exception as error:  # noqa: BLE001 - as in perform
        return asdict(failure(error))
    return asdict(PassResult(reading=asdict(PassReadings(detail={IMAGES: found}))))
