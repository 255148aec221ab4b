"""The spec of a trial: everything that defines it, fixed before it runs."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.spec.frozen_data import (
    Count,
    Frozen,
    Name,
    NotNegative,
    Rate,
    Seed,
    Several,
    Whole,
    canonical_json,
    digest,
    digest_of_text,
    digest_without,
)
from bsrbench.harness.spec.later_keys import identity_of
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.optimizer_names import USUAL_MOMENTUM, Optimizer, optimizer_in_words
from bsrbench.harness.spec.optimizer_options import Momentum, OptimizerOptions, require_own_options
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.workload_axes import (
    AXES,
    AXIS_KEYS,
    AxisValue,
    Precision,
    axis_in_words,
    require_micro_batch_fits,
    require_step_in_backward,
    stated,
)
from bsrbench.harness.visible_text import acting_in


class Workload(Frozen):
    """What all methods share: model, weights, data, batch and precision of a step, optimizer.

    Attributes:
        model: a timm model name.
        weights: ``random`` (seeded), ``timm`` (timm's pretrained weights), the name of a packaged
            set, or ``file:NAME`` in the data root.
        data: name of a data set, or ``pack:FILE.npz`` or ``folder:FOLDER`` in the data root.
        multitask: several data sets instead of one; ``data`` and ``classes`` are then not given.
        classes: width of the head; ``None`` is the number of classes of the data set.
        image_size: side of the square input in pixels; ``None`` is the model's default.
        batch: images per optimizer step; with several tasks, images per task.
        micro_batch: images per forward pass (gradients accumulate); ``None`` is the whole batch.
        precision: ``fp32``; or ``bf16`` or ``fp16`` autocast with fp32 weights. With ``fp16`` the
            loss is scaled, and an optimizer step whose gradients are not finite is skipped.
        compiled_step: ``torch.compile`` of the model's forward pass as one graph, and therefore of
            its backward pass; the loss and the optimizer's fused kernel are not compiled.
        optimizer_in_backward: update each trained parameter, and free its gradient, as soon as the
            backward pass has computed that gradient.
        optimizer: ``sgd``; ``adamw``, or with moments of 8 or 4 bits ``adamw8`` and ``adamw4``;
            ``adafactor``; ``lion``; ``galore``, ``apollo`` and ``apollo-mini``.
        optimizer_options: the optimizer's options that do not have their defaults.
        momentum: momentum of ``sgd``; with 0 it has no state.
        layer_decay: learning rate of a layer divided by the learning rate of the next, as in BEiT.
        head_rate_factor: factor of the head's learning rate, so that a new head can learn faster
            than pretrained layers.
        decay_vectors: whether weight decay applies to biases, norms and other one-dimensional
            parameters, and to the class token and the position embedding.
        threads: CPU threads of one trial.
    """

    model: Name
    weights: Name = "random"
    data: Name = "noise"
    multitask: MultiTask | None = None
    classes: Several | None = None
    image_size: Count | None = None
    batch: Count
    micro_batch: Count | None = None
    precision: Precision = "fp32"
    compiled_step: bool = False
    optimizer_in_backward: bool = False
    optimizer: Optimizer = "sgd"
    optimizer_options: OptimizerOptions | None = None
    momentum: Momentum = USUAL_MOMENTUM
    weight_decay: NotNegative = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    head_rate_factor: Rate = 1.0
    decay_vectors: bool = True
    device: Name = "cpu"
    threads: Count = 1

    @field_validator("optimizer_options")
    @classmethod
    def _states_an_option(cls, options: OptimizerOptions | None) -> OptimizerOptions | None:
        """Return ``None`` for a table without options, so that both have the same id."""
        return options if options and options.stated() else None

    @model_validator(mode="after")
    def _has_the_options_of_its_optimizer(self) -> "Workload":
        require_own_options(self.optimizer, self.optimizer_options)
        return self

    @model_validator(mode="after")
    def _axes_fit(self) -> "Workload":
        require_micro_batch_fits(self.batch, self.micro_batch)
        if self.optimizer_in_backward:
            require_step_in_backward(self.batch, self.micro_batch, self.precision)
        return self

    @model_validator(mode="after")
    def _leaves_to_several_tasks_what_is_theirs(self) -> "Workload":
        if self.multitask is None:
            return self
        if self.data != Workload.model_fields["data"].default or self.classes is not None:
            raise ValueError(
                f"multitask names its own data ({', '.join(self.multitask.tasks)}) and classes: "
                "leave data and classes out of the workload"
            )
        if self.compiled_step:
            raise ValueError(
                "compiled_step compiles one graph, but with multitask each task has its own head "
                "and gates: leave out one of the two"
            )
        return self

    def tasks(self) -> tuple[str, ...]:
        """Return the names of all data sets that the model is trained on."""
        return self.multitask.tasks if self.multitask else (self.data,)

    def step_images(self) -> int:
        """Return the images per step: the batch, times the number of tasks."""
        return self.batch * len(self.tasks())

    def data_name(self) -> str:
        """Return the names of the data sets as one text."""
        return " + ".join(self.tasks())

    def question(self) -> str:
        """Return a hash of the workload without its axes; rows of one question share it."""
        return digest_without(self, AXIS_KEYS)

    def axes(self, beside: "Workload | None" = None) -> list[str]:
        """Return, in words, the axes that differ from ``beside``, or else from their defaults."""
        return [axis_in_words(*axis) for axis in self.stated_axes(beside).items()]

    def axis_values(self) -> dict[str, AxisValue]:
        """Return the value of every axis."""
        words = self.optimizer_in_words()
        return {axis: getattr(self, axis) for axis in AXES} | {"optimizer": words}

    def optimizer_in_words(self) -> str:
        """Return the optimizer and what is not its default, for example ``galore rank=64``."""
        options = self.optimizer_options.stated() if self.optimizer_options else {}
        return optimizer_in_words(self.optimizer, options, self.momentum)

    def stated_axes(self, beside: "Workload | None" = None) -> dict[str, AxisValue]:
        """Return the values of the axes that ``axes`` puts into words.

        Without ``beside``, sgd and adamw with their defaults both go without saying.
        """
        values = self.axis_values()
        if beside is not None:
            return stated(values, beside.axis_values())
        usual = {axis: Workload.model_fields[axis].default for axis in AXES}
        if values["optimizer"] == "adamw":
            usual["optimizer"] = "adamw"
        return stated(values, usual)


class Profile(Frozen):
    """How the clock pass samples step times; memory and FLOPs need no settings.

    Methods are timed in short visits, in turns. A round visits each once; a generation is a number
    of rounds in the same processes. Generations are repeated until the 95 % interval of every ratio
    to the methods compared with is within ``within``, or until the budget is used up.

    Attributes:
        rounds: minimum number of rounds in each generation; 0 disables timing.
        generations: minimum number of generations. Each has new processes, so the interval also
            covers the differences between processes.
        steps: minimum number of steps in a visit; more if they take less than 20 ms.
        warmup_steps: minimum number of untimed steps of a new process; more while steps get faster.
        within: the required half width of the interval, as a fraction of the ratio.
        budget_seconds: time for all generations of one method.
        only_predict: execute nothing and only predict memory and FLOPs, for example for batches
            that do not fit here; needs ``rounds`` = 0.
        trains_as: the row whose training is the same as this row's by construction, so that this
            row is only profiled; ``None`` if there is none.
    """

    rounds: Whole = 5
    generations: Count = 5
    steps: Count = 1
    warmup_steps: Whole = 2
    within: Rate = 0.03
    budget_seconds: NotNegative = 10.0
    only_predict: bool = False
    trains_as: Name | None = None

    @model_validator(mode="after")
    def _times_nothing_it_only_predicts(self) -> "Profile":
        if self.only_predict and self.rounds:
            raise ValueError(
                f"only_predict executes nothing, so nothing can be timed: set rounds = 0, not "
                f"{self.rounds}"
            )
        return self


class TrialSpec(Frozen):
    """One method on one workload, one seed, one device: to train, to profile, or both.

    Attributes:
        method: the method as the user wrote it, for example ``"bsr+int8"``.
        options: the method's options; for a composition, one table per part.
        seed: seed of the head, the order of the images and every random choice of the method.
    """

    method: Name
    options: dict[str, Any] = {}
    workload: Workload
    training: Training | None = None
    profile: Profile | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_options_that_can_be_stored(self) -> "TrialSpec":
        if fault := fault_in(self.options, "options"):
            raise ValueError(fault)
        if code := acting_in(self.options):
            raise ValueError(
                f"options contain the character {code}, expected text without control characters"
            )
        return self

    @model_validator(mode="after")
    def _has_something_to_do(self) -> "TrialSpec":
        if self.training is None and self.profile is None:
            raise ValueError("a trial must have a training part, a profile part, or both")
        return self

    @model_validator(mode="after")
    def _clips_what_it_has(self) -> "TrialSpec":
        clip = self.training.clip_norm if self.training else None
        if clip is not None and self.workload.optimizer_in_backward:
            raise ValueError(
                f"clip_norm {clip:g} needs the norm of all gradients before any update, but "
                "optimizer_in_backward updates as each gradient is computed: leave out one of the "
                "two"
            )
        return self

    def trial_id(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the spec's canonical JSON."""
        parts = {
            "method": canonical_json(self.method),
            "options": canonical_json(self.options),
            "profile": identity_of(self.profile, "profile"),
            "seed": str(self.seed),
            "training": identity_of(self.training, "training"),
            "workload": identity_of(self.workload, "workload"),
        }
        listed = ",".join(f'"{name}":{text}' for name, text in parts.items())
        return digest_of_text(f"{{{listed}}}")

    def row_id(self) -> str:
        """Return a hash of method, options and workload: trials of one row share it."""
        return digest(self.model_dump(mode="json", include={"method", "options", "workload"}))

    def rates(self) -> tuple[float, float] | None:
        """Return the learning rate at its peak and at its end; ``None`` if nothing is trained."""
        training = self.training
        return (training.learning_rate, training.final_learning_rate) if training else None

    def uncompiled(self) -> "TrialSpec":
        """Return the same trial with a step that is not compiled."""
        workload = self.workload.model_copy(update={"compiled_step": False})
        return self.model_copy(update={"workload": workload})

    def label(self, beside: Workload | None = None) -> str:
        """Return the label of this row in reports: the method, its options, and its axes.

        Args:
            beside: a workload whose axes the label leaves out; by default the default values.
        """
        return str(self.row_label(beside))

    def row_label(self, beside: Workload | None = None) -> RowLabel:
        """Return the label of this row as data; ``label`` returns it as text."""
        return RowLabel(self.method, self.options, self.workload.stated_axes(beside))

    def row_name(self) -> RowName:
        """Return the name that identifies the row of this trial."""
        return RowName.of(self.method, self.options, self.workload.axis_values())
