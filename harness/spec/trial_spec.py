"""Everything that defines a trial, frozen before it runs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

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
    digest,
    digest_without,
)
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.workload_axes import AXES, AxisValue, axis_in_words, stated
from bsrbench.harness.visible_text import acting_in

MOST_PASSES = 10_000  # of a step; each is run, and predicted, by itself
# Left out of a trial's id where they are so: trials from before these keys existed keep theirs.
LATER_KEYS: dict[str, dict[str, Any]] = {
    "workload": {
        "compiled_step": False,
        "optimizer_in_backward": False,
        "layer_decay": 1.0,
        "decay_vectors": True,
        "multitask": None,
    },
    "training": {
        "final_learning_rate": 0.0,
        "label_smoothing": 0.0,
        "augmentation": "none",
        "crop_scale": [0.08, 1.0],
        "evaluation_crop": "resize",
        "interpolation": "bicubic",
        "head": "drawn",
        "evaluate_every": None,
    },
    "profile": {"only_predict": False},
}


class Workload(Frozen):
    """What every method is given: model, weights, data, shape of a step, optimizer.

    Attributes:
        model: a timm model name.
        weights: ``random`` (seeded), ``timm`` (its pretrained ones), a packaged set's name, or
            ``file:NAME`` below the data root.
        data: a data set's name, ``pack:FILE.npz`` or ``folder:FOLDER`` below the data root.
        multitask: several data sets instead of one; ``data`` and ``classes`` are then left out.
        classes: width of the head; ``None`` takes the data set's.
        image_size: side of the square input in pixels; ``None`` takes the model's own.
        batch: images an optimizer step; of several tasks each has so many in its turn.
        micro_batch: images a forward pass (gradients accumulate); ``None`` is the whole batch.
        precision: ``fp32``, or ``bf16`` autocast with fp32 weights.
        compiled_step: ``torch.compile`` of the model's forward pass, in one graph, and with it of
            the backward pass; the loss and the optimizer's fused kernel stay as they are.
        optimizer_in_backward: each trained parameter is stepped, and its gradient freed, as soon
            as the backward pass has made that gradient.
        layer_decay: the learning rate of a layer over that of the next, as BEiT has it.
        decay_vectors: weight decay of biases, norms and whatever has one dimension, of class
            token and positions too.
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
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled_step: bool = False
    optimizer_in_backward: bool = False
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    decay_vectors: bool = True
    device: Name = "cpu"
    threads: Count = 1

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> "Workload":
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch {self.batch}")
        passes = self.batch // (self.micro_batch or self.batch)
        if passes > MOST_PASSES:
            raise ValueError(
                f"batch {self.batch} in micro-batches of {self.micro_batch} is {passes:,} passes a "
                f"step, expected at most {MOST_PASSES:,}"
            )
        if self.optimizer_in_backward and (self.micro_batch or self.batch) < self.batch:
            raise ValueError(
                "optimizer_in_backward steps in the one backward pass of a step, got micro_batch "
                f"{self.micro_batch} of batch {self.batch}, whose gradients add up over several: "
                "leave out one of the two"
            )
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
                "compiled_step is one graph, and with multitask each task has a head and gates of "
                "its own: leave out one of the two"
            )
        return self

    def tasks(self) -> tuple[str, ...]:
        """Return the names of all data the model is trained on at once."""
        return self.multitask.tasks if self.multitask else (self.data,)

    def step_images(self) -> int:
        """Return the images of a step: the batch, of several tasks one each."""
        return self.batch * len(self.tasks())

    def data_name(self) -> str:
        """Return the data in a few words."""
        return " + ".join(self.tasks())

    def question(self) -> str:
        """Return what workloads share whose rows answer one question: all but the axes."""
        return digest_without(self, AXES)

    def axes(self, beside: "Workload | None" = None) -> list[str]:
        """Return in words the axes that are not as in ``beside``, or else not at their default."""
        return [axis_in_words(*axis) for axis in self.stated_axes(beside).items()]

    def axis_values(self) -> dict[str, AxisValue]:
        """Return the value of every axis."""
        return {axis: getattr(self, axis) for axis in AXES}

    def stated_axes(self, beside: "Workload | None" = None) -> dict[str, AxisValue]:
        """Return the values of the axes that ``axes`` puts into words."""
        usual = (
            {axis: Workload.model_fields[axis].default for axis in AXES}
            if beside is None
            else beside.axis_values()
        )
        return stated(self.axis_values(), usual)


class Profile(Frozen):
    """How the clock pass samples; memory and FLOPs need no setting.

    Rounds go on until the 95 % interval of every median lies within ``within`` of it, or the
    budget is spent.

    Attributes:
        rounds: fresh processes a method is timed in at least, in turns with the others; 0 times
            nothing.
        steps: timed steps a round.
        warmup_steps: untimed steps before them, at least; more while steps still get faster.
        within: the interval asked for, as a share of the median.
        budget_seconds: time for all rounds of one method.
        only_predict: execute nothing: memory and FLOPs are predicted, for batches that would not
            fit here; with ``rounds`` 0.
    """

    rounds: Whole = 5
    steps: Count = 5
    warmup_steps: Whole = 2
    within: Rate = 0.02
    budget_seconds: NotNegative = 10.0
    only_predict: bool = False

    @model_validator(mode="after")
    def _times_nothing_it_only_predicts(self) -> "Profile":
        if self.only_predict and self.rounds:
            raise ValueError(
                f"only_predict executes nothing to time: set rounds = 0, not {self.rounds}"
            )
        return self


class TrialSpec(Frozen):
    """One method on one workload, one seed, one device: to train, to profile, or both.

    Attributes:
        method: the string as it was written, ``"bsr+int8"`` say.
        options: the method's options; of a composition, one table a part.
        seed: draws the head, the order of the images and every random choice of the method.
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
                f"options have the character {code}, expected text without control characters"
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
                f"clip_norm {clip:g} needs the norm of all gradients before any step, and "
                "optimizer_in_backward steps as each gradient comes: leave out one of the two"
            )
        return self

    def trial_id(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the spec's canonical JSON."""
        return digest(self.identifying())

    def identifying(self) -> dict[str, Any]:
        """Return what the trial's id is a hash of."""
        data = self.model_dump(mode="json")
        for part, usual in LATER_KEYS.items():
            if data[part] is not None:
                data[part] = {
                    name: value
                    for name, value in data[part].items()
                    if name not in usual or value != usual[name]
                }
        return data

    def row_id(self) -> str:
        """Return 16 hex digits of what trials share that differ in seed or in what is measured."""
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
        """Return how reports call this row: the method, its options, and its axes.

        Args:
            beside: a workload whose axes go without saying; the defaults where there is none.
        """
        return str(self.row_label(beside))

    def row_label(self, beside: Workload | None = None) -> RowLabel:
        """Return what ``label`` prints."""
        return RowLabel(self.method, self.options, self.workload.stated_axes(beside))

    def row_name(self) -> RowName:
        """Return what the row of this trial is known by."""
        return RowName.of(self.method, self.options, self.workload.axis_values())
