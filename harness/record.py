"""What a trial leaves behind: spec, outcome, measurements, environment."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from harness.spec import Frozen, TrialSpec

SCHEMA_VERSION: Final = 1

MEASURED_AT = "the steady optimizer step (after two warm-up steps), in bytes"


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        unit: as printed behind the value.
        direction: which way is better.
        definition: one sentence a reader of the report can check us by.
        samples: whether the value is a list of samples.
    """

    unit: str
    direction: Literal["lower", "higher", "none"]
    definition: str
    samples: bool = False


METRICS: dict[str, Metric] = {
    "peak_counted_bytes": Metric(
        "B",
        "lower",
        "Peak of the bytes of all live tensor storages (weights, optimizer state, gradients, "
        "saved activations, inputs, temporaries), each storage once, from watching storages "
        f"being made and freed by operators during {MEASURED_AT}. Memory that one operator "
        "takes inside itself and gives back is not seen.",
    ),
    "peak_allocated_bytes": Metric(
        "B",
        "lower",
        "Peak of the device allocator: on the CPU the rise shown by the allocator's own events "
        "on top of the tensors alive before the step, on CUDA max_memory_allocated, during "
        f"{MEASURED_AT}. Operators' inner workspaces are in it.",
    ),
    "peak_process_bytes": Metric(
        "B",
        "lower",
        "What the machine had to give the process: on the CPU the kernel's high-water mark "
        "(VmHWM, reset before the step, glibc's mmap threshold pinned) above the resident size "
        "before the model was built; on CUDA the caching allocator's peak reservation, during "
        f"{MEASURED_AT}.",
    ),
    "forward_flop": Metric(
        "FLOP",
        "lower",
        "Floating-point operations of the forward passes of one training step of one batch, "
        "2 per multiply-add, of matrix products, convolutions and attention, fused kernels "
        "included; element-wise work is not counted.",
    ),
    "step_flop": Metric(
        "FLOP",
        "lower",
        "The same for the whole optimizer step of one batch as it ran: forward, backward with "
        "what it recomputes, optimizer.",
    ),
    "step_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one optimizer step of one batch with no meter attached, every "
        "sample of every round; data loading is not in it.",
        samples=True,
    ),
    "images_per_second": Metric("1/s", "higher", "Batch over the median of step_seconds."),
    "evaluation_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one forward pass of one batch in evaluation mode without gradients, "
        "every sample of every round.",
        samples=True,
    ),
    "evaluation_images_per_second": Metric(
        "1/s", "higher", "Batch over the median of evaluation_seconds."
    ),
    "trained_parameters": Metric("", "lower", "Elements of the parameters the optimizer is given."),
    "total_parameters": Metric("", "none", "Elements of all parameters of the prepared model."),
    "tokens_after_block": Metric(
        "tokens",
        "none",
        "Tokens each block passes on, class token included, as observed in a training step.",
        samples=True,
    ),
    "accuracy_top1": Metric(
        "",
        "higher",
        "Share of the test split whose highest logit is the label; the split is read once, "
        "after the last step.",
    ),
    "validation_accuracy_top1": Metric(
        "", "higher", "The same on the validation split; only tries of learning rates have it."
    ),
    "training_seconds": Metric(
        "s", "lower", "Wall-clock time of all training steps of the trial, data included."
    ),
    "final_loss": Metric("nat", "lower", "Mean cross-entropy over the last five training batches."),
}


class Status(StrEnum):
    """How a trial ended; all but ``completed`` are results too and stay in the report."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out of memory"
    UNSUPPORTED = "unsupported"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class Outcome(Frozen):
    """How a trial ended, and why if it did not complete."""

    status: Status = Field(strict=False)
    reason: str = ""


Value = int | float | list[float] | list[int] | None


class TrialRecord(Frozen):
    """One trial, whole: nothing in it depends on another file.

    Attributes:
        key: trial id, source fingerprint and machine id, joined; the file's name.
        measurements: a value for every name in ``METRICS``; ``None`` has its reason in ``missing``.
        notes: what a reader of the numbers must know (what a meter could not count, doubts).
        environment: machine, device, versions, commit, round group.
        finished_at: UTC, ISO 8601.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    key: str
    spec: TrialSpec
    outcome: Outcome
    measurements: dict[str, Value]
    missing: dict[str, str]
    notes: list[str] = []
    environment: dict[str, Any]
    finished_at: str

    @model_validator(mode="after")
    def _every_metric_has_a_value_or_a_reason(self) -> "TrialRecord":
        if strange := set(self.measurements) - set(METRICS):
            raise ValueError(f"unknown metrics {sorted(strange)}")
        empty = {name for name in METRICS if self.measurements.get(name) is None}
        if unexplained := empty - set(self.missing):
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        return self

    def label(self) -> str:
        """Return how reports call this row."""
        return self.spec.label()
