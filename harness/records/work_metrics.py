"""The metrics of work and time: operations, seconds, energy, parameters and tokens."""

from bsrbench.harness.records.metric import (
    ClaimLine,
    FigurePart,
    Judgement,
    Metric,
    PageColumn,
    TableColumn,
)

TIME = "Time and energy"
PHASES = ("forward", "backward", "optimizer")
FIRST_PHASE_ON_PAGE, FIRST_PHASE_IN_TABLE, FIRST_PHASE_JUDGED = 520, 40, 140  # places

WORK: dict[str, Metric] = {
    "forward_flop": Metric(
        "FLOP",
        "lower",
        "Floating-point operations of the forward passes of the first training step, for one "
        "batch (with several tasks: one batch per task), 2 per multiply-add. Counted: matrix "
        "products, convolutions and attention, fused kernels included; only experts that run are "
        "counted. Element-wise operations are not counted. If a method has a schedule, this is "
        "its state at the start.",
        display="gigaflop",
        measured_by=("flops", "estimate"),
        judged=Judgement("exact", 100),
        tables=(TableColumn("work", 10, "forward GFLOP"),),
        page=PageColumn("Work", 420, "forward GFLOP", over="forward FLOP"),
    ),
    "forward_macs": Metric(
        "MAC",
        "lower",
        "Multiply-adds of the forward passes of one batch (with several tasks: one batch per "
        "task) in evaluation mode, in micro-batches if the step has them. Counted: matrix "
        "products, convolutions and attention. fvcore counts them, with our handlers for "
        "attention and experts, in traces of one image and of two images, so that operations "
        "independent of the batch size count once per pass. 1 MAC is 2 FLOP. If a method's work "
        "depends on what it has learned, it is first set to its target, as its docstring says; the "
        "same holds for evaluation_seconds.",
        display="gigamacs",
        measured_by=("flops", "estimate"),
        judged=Judgement("exact", 110),
        tables=(TableColumn("work", 30, "forward GMAC"),),
        page=PageColumn("Work", 430, "forward GMAC"),
        claim=ClaimLine("compute", "compute, forward MACs", 60),
    ),
    "step_flop": Metric(
        "FLOP",
        "lower",
        "Floating-point operations of the whole first training step, counted as in forward_flop: "
        "forward, backward (recomputation included) and optimizer. If the step is compiled, both "
        "metrics are those of the uncompiled step.",
        display="gigaflop",
        measured_by=("flops", "estimate"),
        words="FLOPs of a step",
        judged=Judgement("exact", 120),
        tables=(
            TableColumn("main", 50, "step GFLOP", short="step GFLOP", ratio=True),
            TableColumn("paper", 30, "GFLOP", ratio=True),
            TableColumn("work", 20, "step GFLOP"),
        ),
        page=PageColumn("Work", 410, "step GFLOP", shown=True, over="step FLOP", over_shown=True),
        figures=(
            FigurePart(
                "accuracy",
                "work of a training step",
                file="flops",
                caption="FLOPs of a training step",
            ),
            FigurePart("time-flops", "FLOPs", place=20),
        ),
        claim=ClaimLine("compute", "compute, FLOPs of a training step", 70),
        csv_ratio=True,
    ),
    "step_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one optimizer step on one batch (with several tasks: of one step for "
        "every task), without any other meter. All samples of all rounds are stored. Data loading "
        "is not included.",
        display="milliseconds",
        measured_by=("clock",),
        samples=True,
        words="time of a step",
        judged=Judgement("in turns", 130),
        tables=(
            TableColumn(
                "main", 60, "step ms [quartiles]", form="spread", short="step ms", ratio=True
            ),
            TableColumn("paper", 40, "step (ms)", form="marked", ratio=True),
        ),
        page=PageColumn(TIME, 510, "step ms", shown=True, over="step time", over_shown=True),
        figures=(
            FigurePart(
                "accuracy", "time of a training step", file="time", caption="time of a step"
            ),
            FigurePart("batch", "time of a step", file="time"),
            FigurePart("time-flops", "time", place=10),
        ),
        claim=ClaimLine("compute", "time of a training step", 80),
        csv_ratio=True,
    ),
    "step_cpu_seconds": Metric(
        "s",
        "lower",
        "CPU time of one optimizer step on one batch (with several tasks: of one step for every "
        "task): user and system time of all threads. Measured in visits of their own, in "
        "processes whose threads sleep while they wait (OMP_WAIT_POLICY=PASSIVE). Waiting for "
        "other processes is not included; slower access to shared caches and memory is.",
        display="milliseconds",
        measured_by=("cpu_time",),
        samples=True,
        needs=("CPU",),
        words="CPU time of a step",
        judged=Judgement("in turns", 135),
        tables=(TableColumn("main", 65, "CPU ms", form="spread", ratio=True),),
        page=PageColumn(TIME, 512, "CPU ms", over="CPU time"),
        csv_ratio=True,
    ),
    **{
        f"step_{name}": Metric(
            name,
            "lower",
            f"{name.capitalize()} of the processor in one optimizer step, counted together with "
            "step_cpu_seconds by perf_event_open: in user space, over all threads.",
            display="millions",
            measured_by=("cpu_time",),
            samples=True,
            needs=("CPU",),
            judged=Judgement("in turns", 136 + number),
            tables=(TableColumn("work", 35 + number, f"{name} M"),),
            page=PageColumn(TIME, 514 + number, f"{name} M", over=name),
        )
        for number, name in enumerate(("instructions", "cycles"))
    },
    **{
        f"{phase}_seconds": Metric(
            "s",
            "lower",
            f"Wall-clock time of the {phase} part of a step, the sum over micro-batches. The "
            "device is synchronised at both ends, and the loop is separate from that of "
            "step_seconds. An optimizer that runs during the backward pass counts as backward.",
            display="milliseconds",
            measured_by=("clock",),
            samples=True,
            judged=Judgement("in turns", FIRST_PHASE_JUDGED + number),
            tables=(TableColumn("work", FIRST_PHASE_IN_TABLE + number, f"{phase} ms"),),
            page=PageColumn(
                TIME, FIRST_PHASE_ON_PAGE + number, f"{phase} ms", over=f"{phase} time"
            ),
        )
        for number, phase in enumerate(PHASES)
    },
    "compile_seconds": Metric(
        "s",
        "lower",
        "Time that torch.compile reports for the forward and backward pass of a training step, "
        "before the first timed step. Compilation for evaluation is not included. One thread "
        "compiles, starting with an empty cache. Later visits reuse the compiled code, so this is "
        "the longest time of any visit.",
        display="seconds",
        measured_by=("clock",),
        needs=("compiled step",),
        tables=(TableColumn("work", 70, "compile s"),),
        page=PageColumn(TIME, 590, "compile s"),
    ),
    "joules_per_image": Metric(
        "J",
        "lower",
        "Energy during the timed steps of a visit, divided by the number of images, from the "
        "device's own counter (NVML; RAPL of the processor packages). Other work of the device is "
        "included.",
        display="joules",
        measured_by=("clock",),
        samples=True,
        judged=Judgement("in turns", 180),
        tables=(TableColumn("work", 80, "J / image"),),
        page=PageColumn(TIME, 580, "energy per image J", over="energy"),
    ),
    "images_per_second": Metric(
        "1/s",
        "higher",
        "Images per step, divided by the median of step_seconds.",
        display="rate",
        rate_of="step_seconds",
        tables=(TableColumn("main", 70, "img/s"),),
        page=PageColumn(TIME, 560, "images 1/s"),
    ),
    "evaluation_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one forward pass of one batch (with several tasks: one batch per "
        "task) in evaluation mode without gradients. All samples of all rounds are stored.",
        display="milliseconds",
        measured_by=("clock",),
        samples=True,
        judged=Judgement("in turns", 170),
        page=PageColumn(TIME, 550, "evaluation ms", over="evaluation time"),
        claim=ClaimLine("compute", "time of evaluation", 90),
    ),
    "evaluation_images_per_second": Metric(
        "1/s",
        "higher",
        "Images per step, divided by the median of evaluation_seconds.",
        display="rate",
        rate_of="evaluation_seconds",
        tables=(TableColumn("main", 80, "eval img/s"),),
        page=PageColumn(TIME, 570, "evaluation images 1/s"),
    ),
    "trained_parameters": Metric(
        "",
        "lower",
        "Number of parameter elements that the optimizer updates.",
        display="millions",
        measured_by=("flops", "estimate", "training"),
        judged=Judgement("exact", 190),
        tables=(TableColumn("main", 90, "trained M", short="trained M", ranked=False),),
        page=PageColumn("Work", 440, "trained M", shown=True, over="trained"),
    ),
    "total_parameters": Metric(
        "",
        "none",
        "Number of elements of all parameters of the prepared model.",
        display="millions",
        measured_by=("flops", "estimate"),
        page=PageColumn("Work", 450, "all parameters M"),
    ),
    "tokens_after_block": Metric(
        "tokens",
        "none",
        "Tokens in the output of each block, class token included, observed in the first training "
        "step (at the start of a token schedule).",
        display="count",
        measured_by=("flops",),
        samples=True,
        per="block",
        tables=(TableColumn("work", 90, "tokens", form="runs"),),
    ),
}
