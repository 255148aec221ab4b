"""The options that describe one workload, and the trial that they define."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from bsrbench.harness.cli.completion import method_names
from bsrbench.harness.cli.settings import nested
from bsrbench.harness.errors import explain
from bsrbench.harness.spec.optimizer_names import MOMENTUM, OPTIMIZERS
from bsrbench.harness.spec.workload_axes import AxisValue, keys_of_axes

if TYPE_CHECKING:
    from bsrbench.harness.spec.trial_spec import Profile, TrialSpec


@dataclass(frozen=True)
class WorkloadOptions:
    """The options of a workload except method and batch; the trial's spec validates them.

    Attributes:
        model: a timm model.
        micro_batch: images per forward pass; ``None`` is the whole batch.
        image_size: side in pixels; ``None`` is the model's default.
        classes: width of the head.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        compiled_step: whether the step is compiled.
        optimizer: name of the optimizer.
        optimizer_options: its options, as KEY=VALUE.
        optimizer_in_backward: whether each parameter is updated inside the backward pass.
        device: name of the device.
        threads: CPU threads; ``None`` is all usable cores.
    """

    model: str
    micro_batch: int | None
    image_size: int | None
    classes: int
    precision: str
    compiled_step: bool
    optimizer: str
    optimizer_options: tuple[str, ...]
    optimizer_in_backward: bool
    device: str
    threads: int | None

    def on_axes(self, axes: Mapping[str, AxisValue]) -> "WorkloadOptions":
        """Return a copy with other values on some axes of the workload."""
        keys = keys_of_axes(axes)
        if MOMENTUM in keys:  # there is another optimizer
            options = keys["optimizer_options"] or {}
            momentum = keys.pop(MOMENTUM)
            if keys["optimizer"] == "sgd":
                options = {MOMENTUM: momentum}
            keys["optimizer_options"] = tuple(f"{k}={v!r}" for k, v in options.items())
        return WorkloadOptions(**asdict(self) | keys)

    def spec(
        self, where: str, method: str, options: dict[str, Any], batch: int, profile: "Profile"
    ) -> "TrialSpec":
        """Return the trial of a method on this workload, with random weights and noise images.

        Args:
            where: the command, for error messages.
            method: name of the method.
            options: options of the method.
            batch: images per optimizer step.
            profile: how the trial is measured.

        Raises:
            BadInput: a value is not valid; the message names it.
        """
        from pydantic import ValidationError

        from bsrbench.harness.spec.optimizer_options import OptimizerOptions
        from bsrbench.harness.spec.trial_spec import TrialSpec, Workload

        threads = self.threads or len(os.sched_getaffinity(0))
        stated: dict[str, Any] = {
            "batch": batch,
            "threads": threads,
            "data": "noise",
            "weights": "random",
        }
        optimizer_options = nested(self.optimizer_options, "--optimizer-option")
        if self.optimizer == "sgd" and MOMENTUM in optimizer_options:
            stated[MOMENTUM] = optimizer_options.pop(MOMENTUM)
        stated["optimizer_options"] = optimizer_options
        try:
            workload = Workload.model_validate(asdict(self) | stated)
            return TrialSpec(method=method, options=options, workload=workload, profile=profile)
        except ValidationError as error:
            raise explain(error, where, OptimizerOptions.model_fields) from error


WORKLOAD_OPTIONS = (
    click.option("--model", required=True, help="A timm model."),
    click.option("--micro-batch", type=int, help="Images per forward pass; gradients accumulate."),
    click.option(
        "--image-size", type=int, help="Side of the image in pixels; the default is the model's."
    ),
    click.option("--classes", type=int, default=10, show_default=True),
    click.option(
        "--precision",
        default="fp32",
        show_default=True,
        help="fp32, bf16 or fp16 (autocast; fp16 with a scaled loss).",
    ),
    click.option(
        "--compiled-step", is_flag=True, help="torch.compile the forward and backward pass."
    ),
    click.option(
        "--optimizer",
        default="sgd",
        show_default=True,
        help=f"{', '.join(OPTIMIZERS[:-1])} or {OPTIMIZERS[-1]}.",
    ),
    click.option(
        "--optimizer-option",
        "optimizer_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set an option of the optimizer, or the momentum of sgd; can be repeated.",
    ),
    click.option(
        "--optimizer-in-backward",
        is_flag=True,
        help="Update each parameter and free its gradient inside the backward pass.",
    ),
    click.option("--device", default="cpu", show_default=True),
    click.option("--threads", type=int, help="CPU threads; the default is all usable cores."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else."),
)
METHOD_OPTIONS = (
    click.option(
        "--method",
        required=True,
        shell_complete=method_names,
        help="A method, or several joined by '+'.",
    ),
    click.option("--batch", required=True, type=int, help="Images per optimizer step."),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set a method option to a TOML value; can be repeated.",
    ),
)
