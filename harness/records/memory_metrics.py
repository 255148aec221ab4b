"""The metrics of memory."""

from bsrbench.harness.records.metric import (
    ClaimLine,
    FigurePart,
    Judgement,
    Metric,
    PageColumn,
    TableColumn,
)

MEASURED_AT = "a steady-state optimizer step (one that creates no optimizer state)"
AT_PEAK = {
    "weights": "the model's parameters",
    "buffers": "the model's buffers",
    "optimizer": "the optimizer's state",
    "inputs": "the batch's images and labels",
    "kept": (
        "all other tensors that the method, the model or a module keeps between steps, in an "
        "attribute, container, closure or cache"
    ),
    "gradients": "gradients of parameters",
    "saved_activations": (
        "tensors created in a forward pass that are still alive when its backward pass begins"
    ),
    "temporaries": "all other tensors, including those that a backward pass recomputes",
}
FIRST_PART = 310  # the place of the first part of the peak on the page

MEMORY: dict[str, Metric] = {
    "peak_counted_bytes": Metric(
        "B",
        "lower",
        "Peak of the bytes of all tensor storages alive on the trial's device during "
        f"{MEASURED_AT}. Each storage counts once. Included: weights, buffers, optimizer state, "
        "the batch, tensors that the method, the model or a module keeps between steps, and the "
        "outputs of operators from their creation until they are freed. Not included: memory "
        "that one operator allocates and frees internally, tensors created by other threads, and "
        "memory outside torch tensors.",
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
    "mean_peak_bytes": Metric(
        "B",
        "lower",
        "Mean of the counted peaks of a steady step in each state of a method that changes which "
        "parameters train; peak_counted_bytes is the largest of them. Other methods do not have "
        "it.",
        display="mebibytes",
        measured_by=("memory", "estimate"),
        page=PageColumn("Memory", 112, "mean over states MiB"),
    ),
    "measured_states": Metric(
        "",
        "none",
        "Number of states in which a method was measured that changes which parameters train. "
        "FLOPs and times are means over them. Other methods do not have it.",
        display="count",
        measured_by=("memory", "estimate"),
        page=PageColumn("Memory", 114, "states"),
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
        "Saved activations alive when a backward pass begins; with micro-batches, the largest of "
        "them.",
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
        "The same as peak_counted_bytes, but for the first step, in which the optimizer creates "
        "its state.",
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
        "Memory that the running operator uses internally, without its outputs, at the moment of "
        "the allocated peak. It is read from the events of the allocator, assigned to operators. "
        "On CUDA it includes the workspaces that cuBLAS and cuBLASLt hold between operators.",
        display="mebibytes",
        measured_by=("memory",),
        needs=("uncompiled step",),
        tables=(TableColumn("memory", 20, "workspace MiB"),),
        page=PageColumn("Memory", 120, "workspace MiB"),
    ),
    "peak_allocated_bytes": Metric(
        "B",
        "lower",
        f"Peak memory of the device allocator during {MEASURED_AT}. On CUDA: "
        "max_memory_allocated. On the CPU: the counted tensors alive before the step plus the "
        "rise given by the allocator's events. Internal workspaces of operators are included; on "
        "the CPU, allocations of other threads are not. On the CPU and on CUDA this peak equals, "
        "within 1 %, workspace_bytes plus the tensors counted at the same moment, on CUDA with the "
        "unused rest of their blocks; a larger difference is noted. The counted peak may occur at "
        "another moment, so peak_counted_bytes plus workspace_bytes can differ from it.",
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
        "Peak memory that a caching allocator reserved on the device (CUDA: max_memory_reserved). "
        "Its cache is emptied before the step. The CPU allocator has no cache.",
        display="mebibytes",
        measured_by=("memory", "allocated"),
        needs=("caching allocator",),
        judged=Judgement("read once", 50),
        page=PageColumn("Memory", 140, "reserved MiB", over="reserved"),
    ),
    "peak_process_bytes": Metric(
        "B",
        "lower",
        f"Peak memory of the process during {MEASURED_AT}, after two earlier steps. On the CPU: "
        "the kernel's high-water mark (VmHWM, reset before the step; glibc's mmap threshold is "
        "fixed) minus the resident size before the model was built. For a compiled step the "
        "subtracted level is the resident size just before the step without the live tensors, so "
        "that memory left by the compiler is not included. On CUDA: the memory that NVML reports "
        "for this process after the step, CUDA context included; if NVML does not report it, the "
        "rise of the device's total use (then noted).",
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
        "resident, buffers of libraries, and allocations of other threads. It is negative if an "
        "allocated workspace was not fully touched (oneDNN's convolution backward).",
        display="mebibytes",
        values="signed",
        tables=(TableColumn("memory", 50, "residual MiB"),),
        page=PageColumn("Memory", 160, "residual MiB"),
    ),
    "peak_estimated_bytes": Metric(
        "B",
        "lower",
        "Prediction of peak_counted_bytes without executing the step: the same meter runs over "
        "the same step with tensors that have shapes but no values. Workspaces are not included.",
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
    "peak_estimated_allocated_bytes": Metric(
        "B",
        "lower",
        "Prediction of peak_allocated_bytes on an NVIDIA GPU without executing the step: the "
        "predicted tensors in the order in which they are created and freed, the workspaces that "
        "operators and cuBLAS allocate by torch's formulas, and the rules of torch's caching "
        "allocator. Workspaces of cuDNN are not included.",
        display="mebibytes",
        measured_by=("estimate",),
        needs=("uncompiled step", "NVIDIA GPU"),
        judged=Judgement("exact", 85),
        tables=(TableColumn("memory", 85, "estimated allocated MiB"),),
        page=PageColumn("Memory", 195, "estimated allocated MiB"),
    ),
    "estimate_error": Metric(
        "",
        "none",
        "Relative error of the prediction: the predicted peak divided by the measured peak, minus "
        "1. On NVIDIA GPUs: peak_estimated_allocated_bytes and peak_allocated_bytes. On the CPU: "
        "peak_estimated_bytes and peak_counted_bytes. On other devices, and in records without the "
        "first of these: peak_estimated_bytes and peak_allocated_bytes.",
        display="percent",
        needs=("uncompiled step",),
        values="signed",
        tables=(TableColumn("memory", 90, "error"),),
        page=PageColumn("Memory", 200, "estimate's error"),
    ),
    "paper_convention_bytes": Metric(
        "B",
        "lower",
        "Computed from the model by the convention of TinyTL, Rep-Net, Back Razor and BSR: the "
        "fp32 activations of one image by one fixed rule per layer type, times the images per "
        "forward pass, plus 4 bytes per trained parameter and 1 byte per frozen parameter. "
        "Gradients, optimizer state and real allocations are not included. Do not compare it with "
        "measured bytes.",
        display="mebibytes",
        measured_by=("estimate",),
        judged=Judgement("exact", 90),
        tables=(TableColumn("memory", 100, "paper convention MB"),),
        page=PageColumn("Memory", 210, "paper convention MiB", over="paper convention"),
        figures=(FigurePart("memory-words", "paper convention", place=10),),
        claim=ClaimLine("memory", "memory, paper convention", 10),
    ),
}
