"""The metrics of memory."""

from bsrbench.harness.records.metric import (
    ClaimLine,
    FigurePart,
    Judgement,
    Metric,
    PageColumn,
    TableColumn,
)

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
FIRST_PART = 310  # the place of the first part of the peak on the page

MEMORY: dict[str, Metric] = {
    "peak_counted_bytes": Metric(
        "B",
        "lower",
        "Peak of the bytes of the tensor storages that are alive at once on the trial's device "
        f"during {MEASURED_AT}, each storage once: weights, buffers, the optimizer's state, the "
        "batch, what the method, the model or a module keeps from step to step, and whatever "
        "operators make, as they make and free it. Not in it: what an operator takes inside itself "
        "and gives back, what other threads make, and what is no tensor of torch's.",
        display="mebibytes",
        measured_by=("memory",),
        needs=("uncompiled step",),
        words="peak memory (counted)",
        judged=Judgement("exact", 20),
        tables=(
            TableColumn("main", 20, "counted MiB", short="counted MiB", ratio=True),
            TableColumn("paper", 20, "memory (MiB)", ratio=True),
            TableColumn("memory", 10, "counted MiB"),
        ),
        page=PageColumn("Memory", 110, "counted MiB", shown=True, over="counted", over_shown=True),
        figures=(
            FigurePart("accuracy", "counted peak memory", file="memory"),
            FigurePart("batch", "counted peak memory", file="memory"),
            FigurePart("memory", "counted peak memory"),
            FigurePart("memory-words", "counted", place=20),
        ),
        claim=ClaimLine("memory", "memory, counted", 20),
        csv_ratio=True,
    ),
    **{
        f"{category}_at_peak_bytes": Metric(
            "B",
            "none",
            f"Part of peak_counted_bytes: {what}. The parts add up to the peak.",
            display="mebibytes",
            measured_by=("memory",),
            needs=("uncompiled step",),
            part=category,
            page=PageColumn(
                "Memory at the counted peak",
                FIRST_PART + number,
                f"{category.replace('_', ' ')} at peak MiB",
            ),
        )
        for number, (category, what) in enumerate(AT_PEAK.items())
    },
    "held_after_forward_bytes": Metric(
        "B",
        "lower",
        "Saved activations alive when a backward pass begins, the most of any micro-batch.",
        display="mebibytes",
        measured_by=("memory",),
        needs=("uncompiled step",),
        judged=Judgement("exact", 70),
        tables=(TableColumn("memory", 70, "held after forward MiB"),),
        page=PageColumn("Memory", 180, "held after forward MiB", over="held after forward"),
    ),
    "peak_first_step_bytes": Metric(
        "B",
        "lower",
        "peak_counted_bytes of the first step instead, in which the optimizer makes its state.",
        display="mebibytes",
        measured_by=("memory",),
        needs=("uncompiled step",),
        judged=Judgement("exact", 60),
        tables=(TableColumn("memory", 60, "first step MiB"),),
        page=PageColumn("Memory", 170, "first step MiB", over="first step"),
    ),
    "workspace_bytes": Metric(
        "B",
        "lower",
        "Bytes that the running operator has taken for itself, none of them its outputs, at the "
        "moment of the allocated peak, from the CPU allocator's events with every operator marked.",
        display="mebibytes",
        measured_by=("memory",),
        needs=("uncompiled step",),
        tables=(TableColumn("memory", 20, "workspace MiB"),),
        page=PageColumn("Memory", 120, "workspace MiB"),
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
        display="mebibytes",
        measured_by=("memory", "allocated"),
        judged=Judgement("exact", 30),
        tables=(
            TableColumn("main", 30, "allocated MiB"),
            TableColumn("memory", 30, "allocated MiB"),
        ),
        page=PageColumn("Memory", 130, "allocated MiB", over="allocated"),
        figures=(FigurePart("memory-words", "allocated", place=30),),
        claim=ClaimLine("memory", "memory, allocated", 30),
        csv_ratio=True,
    ),
    "peak_reserved_bytes": Metric(
        "B",
        "lower",
        "Peak of what a caching allocator took from the device (CUDA: max_memory_reserved), its "
        "cache emptied before the step. The CPU's allocator does not cache.",
        display="mebibytes",
        measured_by=("memory", "allocated"),
        needs=("caching allocator",),
        judged=Judgement("read once", 50),
        page=PageColumn("Memory", 140, "reserved MiB", over="reserved"),
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
        display="mebibytes",
        measured_by=("process",),
        judged=Judgement("read once", 40),
        tables=(
            TableColumn("main", 40, "process MiB"),
            TableColumn("memory", 40, "process MiB"),
        ),
        page=PageColumn("Memory", 150, "process MiB", over="process"),
        claim=ClaimLine("memory", "memory, process", 50),
    ),
    "residual_bytes": Metric(
        "B",
        "none",
        "peak_process_bytes minus peak_allocated_bytes: code and small objects that became "
        "resident, buffers of libraries, and what other threads allocated. It is negative where a "
        "workspace was allocated and not all of it touched (oneDNN's convolution backward).",
        display="mebibytes",
        values="signed",
        tables=(TableColumn("memory", 50, "residual MiB"),),
        page=PageColumn("Memory", 160, "residual MiB"),
    ),
    "peak_estimated_bytes": Metric(
        "B",
        "lower",
        "peak_counted_bytes predicted with nothing executed: the same meter over the same step of "
        "tensors that have shapes and no numbers. Workspaces come on top.",
        display="mebibytes",
        measured_by=("estimate",),
        stands_in_for="peak_counted_bytes",
        words="peak memory (predicted)",
        judged=Judgement("exact", 80),
        tables=(
            TableColumn("stand-in", 10, "predicted MiB", short="predicted MiB", ratio=True),
            TableColumn("memory", 80, "estimated MiB"),
        ),
        page=PageColumn("Memory", 190, "estimated MiB", over="estimated"),
        figures=(FigurePart("batch", "predicted peak memory", file="predicted-memory"),),
        claim=ClaimLine("memory", "memory, counted, predicted", 40),
    ),
    "estimate_error": Metric(
        "",
        "none",
        "peak_estimated_bytes over what it predicts, minus 1: peak_counted_bytes on the CPU, "
        "peak_allocated_bytes elsewhere.",
        display="percent",
        needs=("uncompiled step",),
        values="signed",
        tables=(TableColumn("memory", 90, "error"),),
        page=PageColumn("Memory", 200, "estimate's error"),
    ),
    "paper_convention_bytes": Metric(
        "B",
        "lower",
        "Estimated from the model by the convention of TinyTL, Rep-Net, Back Razor and BSR: fp32 "
        "activations of one image by a fixed rule a layer, times the images of a forward pass, "
        "plus 4 bytes a trained and 1 byte a frozen parameter; no gradients, no optimizer state, "
        "no real allocation. Not to be mixed with measured bytes.",
        display="mebibytes",
        measured_by=("estimate",),
        judged=Judgement("exact", 90),
        tables=(TableColumn("memory", 100, "paper convention MB"),),
        page=PageColumn("Memory", 210, "paper convention MiB", over="paper convention"),
        figures=(FigurePart("memory-words", "paper convention", place=10),),
        claim=ClaimLine("memory", "memory, paper convention", 10),
    ),
}
