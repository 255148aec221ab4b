"""What every number in a record means: name, unit, direction, definition."""

from dataclasses import dataclass
from typing import Literal

MEASURED_AT = "a steady optimizer step (one that makes no optimizer state)"
AT_PEAK = {
    "weights": "the model's parameters",
    "buffers": "the model's buffers",
    "optimizer": "the optimizer's state",
    "inputs": "the batch's images and labels",
    "kept": (
        "all other tensors that the method, the model or a module keeps from step to step, in "
        "whatever attribute, container, closure or cache"
    ),
    "gradients": "gradients of parameters",
    "saved_activations": "tensors made in a forward pass and alive when its backward pass begins",
    "temporaries": "everything else, what a backward pass recomputes among it",
}


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


MEMORY: dict[str, Metric] = {
    "peak_counted_bytes": Metric(
        "B",
        "lower",
        "Peak of the bytes of the tensor storages that are alive at once on the trial's device "
        f"during {MEASURED_AT}, each storage once: weights, buffers, the optimizer's state, the "
        "batch, what the method, the model or a module keeps from step to step, and whatever "
        "operators make, as they make and free it. Not in it: what an operator takes inside itself "
        "and gives back, what other threads make, and what is no tensor of torch's.",
    ),
    **{
        f"{category}_at_peak_bytes": Metric(
            "B", "none", f"Part of peak_counted_bytes: {what}. The parts add up to the peak."
        )
        for category, what in AT_PEAK.items()
    },
    "held_after_forward_bytes": Metric(
        "B",
        "lower",
        "Saved activations alive when a backward pass begins, the most of any micro-batch.",
    ),
    "peak_first_step_bytes": Metric(
        "B",
        "lower",
        "peak_counted_bytes of the first step instead, in which the optimizer makes its state.",
    ),
    "workspace_bytes": Metric(
        "B",
        "lower",
        "Bytes that the running operator has taken for itself, none of them its outputs, at the "
        "moment of the allocated peak, from the CPU allocator's events with every operator marked.",
    ),
    "peak_allocated_bytes": Metric(
        "B",
        "lower",
        "Peak of the device allocator: on the CPU the rise shown by the allocator's own events "
        "on top of the tensors alive before the step, those that are counted, on CUDA "
        f"max_memory_allocated, during {MEASURED_AT}. Operators' inner workspaces are in it; on "
        "the CPU what other threads allocate is not. It may be reached at another moment than the "
        "counted peak: on the CPU the tensors counted at its own moment and workspace_bytes make "
        "it up but for 1 % (more is noted), and peak_counted_bytes and workspace_bytes need not.",
    ),
    "peak_reserved_bytes": Metric(
        "B",
        "lower",
        "Peak of what a caching allocator took from the device (CUDA: max_memory_reserved), its "
        "cache emptied before the step. The CPU's allocator does not cache.",
    ),
    "peak_process_bytes": Metric(
        "B",
        "lower",
        "What the machine had to give the process: on the CPU the kernel's high-water mark "
        "(VmHWM, reset before the step, glibc's mmap threshold pinned) above the resident size "
        "before the model was built, or for a compiled step above the level just before it less "
        "the tensors alive there, so that what the compiler left is not in it; on CUDA what NVML "
        "says this process uses after the step, the CUDA context included, or where it does not "
        f"say, the device's use above the level before (then noted). During {MEASURED_AT}, after "
        "two others.",
    ),
    "residual_bytes": Metric(
        "B",
        "none",
        "peak_process_bytes minus peak_allocated_bytes: code and small objects that became "
        "resident, buffers of libraries, and what other threads allocated. It is negative where a "
        "workspace was allocated and not all of it touched (oneDNN's convolution backward).",
    ),
    "peak_estimated_bytes": Metric(
        "B",
        "lower",
        "peak_counted_bytes predicted with nothing executed: the same meter over the same step of "
        "tensors that have shapes and no numbers. Workspaces come on top.",
    ),
    "estimate_error": Metric(
        "",
        "none",
        "peak_estimated_bytes over what it predicts, minus 1: peak_counted_bytes on the CPU, "
        "peak_allocated_bytes elsewhere.",
    ),
    "paper_convention_bytes": Metric(
        "B",
        "lower",
        "Estimated from the model by the convention of TinyTL, Rep-Net, Back Razor and BSR: fp32 "
        "activations of one image by a fixed rule a layer, times the images of a forward pass, "
        "plus 4 bytes a trained and 1 byte a frozen parameter; no gradients, no optimizer state, "
        "no real allocation. Not to be mixed with measured bytes.",
    ),
}

METRICS: dict[str, Metric] = {
    **MEMORY,
    "forward_flop": Metric(
        "FLOP",
        "lower",
        "Floating-point operations of the forward passes of the first training step of a trial, "
        "of one batch, of several tasks one batch each, 2 per multiply-add, of matrix products, "
        "convolutions and attention, fused kernels included, of experts those that run; "
        "element-wise work is not counted. A method that changes from step to step is where its "
        "schedule starts.",
    ),
    "forward_macs": Metric(
        "MAC",
        "lower",
        "Multiply-adds of the forward passes of one batch (in micro-batches, if the step has "
        "them), of several tasks of one each, in evaluation mode, of matrix products, convolutions "
        "and attention, counted by fvcore from traces of one image and of two with our handlers "
        "for attention and experts; what runs once a pass counts once a pass. 1 MAC is 2 FLOP.",
    ),
    "step_flop": Metric(
        "FLOP",
        "lower",
        "The same for the whole of that first step as it ran: forward, backward with what it "
        "recomputes, optimizer. Both are those of the uncompiled step where it is compiled.",
    ),
    "step_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one optimizer step of one batch, of several tasks of all their turns, "
        "with no meter attached, every sample of every round; data loading is not in it.",
        samples=True,
    ),
    **{
        f"{phase}_seconds": Metric(
            "s",
            "lower",
            f"Wall-clock time of the {phase} part of a step, synchronised at both ends, in a loop "
            "apart from step_seconds; micro-batches added up. An optimizer in the backward pass is "
            "backward.",
            samples=True,
        )
        for phase in ("forward", "backward", "optimizer")
    },
    "compile_seconds": Metric(
        "s",
        "lower",
        "Time torch.compile took, by its own clock, for the forward and backward pass of a "
        "training step, before the first timed step; evaluation's compilation is not in it. One "
        "thread compiles, and with an empty cache: later visits reuse the first one's code, so "
        "it is the most any visit took.",
    ),
    "joules_per_image": Metric(
        "J",
        "lower",
        "Energy by the device's own counter (NVML; RAPL's processor packages) over the timed "
        "steps of a visit, over the images in them; what else the device did is in it.",
        samples=True,
    ),
    "images_per_second": Metric(
        "1/s", "higher", "Images of a step over the median of step_seconds."
    ),
    "evaluation_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one forward pass of one batch, of several tasks of one each, in "
        "evaluation mode without gradients, every sample of every round.",
        samples=True,
    ),
    "evaluation_images_per_second": Metric(
        "1/s", "higher", "Images of a step over the median of evaluation_seconds."
    ),
    "trained_parameters": Metric("", "lower", "Elements of the parameters the optimizer is given."),
    "total_parameters": Metric("", "none", "Elements of all parameters of the prepared model."),
    "tokens_after_block": Metric(
        "tokens",
        "none",
        "Tokens each block passes on, class token included, as observed in the first training "
        "step, where a schedule of tokens starts.",
        samples=True,
    ),
    "accuracy_top1": Metric(
        "",
        "higher",
        "Share of the test split whose highest logit is the label; the split is read once, "
        "after the last step. Of several tasks, the mean over tasks.",
    ),
    "validation_accuracy_top1": Metric(
        "", "higher", "The same on the validation split; only tries of learning rates have it."
    ),
    "accuracy_by_task": Metric(
        "",
        "higher",
        "The accuracy of each of several tasks, in the order of the workload's tasks, on the split "
        "that was read after the last step; accuracy_top1 is their mean.",
        samples=True,
    ),
    "busiest_experts_share": Metric(
        "",
        "none",
        "Share of the tokens that a gate sends to its top_k busiest experts, over the split that "
        "was read after the last step, the most of any gate: top_k over the number of experts "
        "where all are equally busy, 1 where every token goes to the same ones.",
    ),
    "training_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of all training steps of the trial, data and compilation included.",
    ),
    "curve_steps": Metric(
        "", "none", "Steps after which the validation split was read during training.", samples=True
    ),
    "curve_seconds": Metric(
        "s",
        "none",
        "training_seconds until each of curve_steps; what reading took is not in it.",
        samples=True,
    ),
    "curve_accuracies": Metric(
        "", "higher", "Validation accuracy after each of curve_steps.", samples=True
    ),
    "final_loss": Metric(
        "nat",
        "lower",
        "Mean loss (cross-entropy, with the recipe's label smoothing) over the last five batches.",
    ),
}
