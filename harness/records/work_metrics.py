"""The metrics of work and time: operations, seconds, energy, and what a step is made of."""

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
        "Floating-point operations of the forward passes of the first training step of a trial, "
        "of one batch, of several tasks one batch each, 2 per multiply-add, of matrix products, "
        "convolutions and attention, fused kernels included, of experts those that run; "
        "element-wise work is not counted. A method that changes from step to step is where its "
        "schedule starts.",
        display="gigaflop",
        measured_by=("flops", "estimate"),
        judged=Judgement("exact", 100),
        tables=(TableColumn("work", 10, "forward GFLOP"),),
        page=PageColumn("Work", 420, "forward GFLOP", over="forward FLOP"),
    ),
    "forward_macs": Metric(
        "MAC",
        "lower",
        "Multiply-adds of the forward passes of one batch (in micro-batches, if the step has "
        "them), of several tasks of one each, in evaluation mode, of matrix products, convolutions "
        "and attention, counted by fvcore from traces of one image and of two with our handlers "
        "for attention and experts; what runs once a pass counts once a pass. 1 MAC is 2 FLOP.",
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
        "The same for the whole of that first step as it ran: forward, backward with what it "
        "recomputes, optimizer. Both are those of the uncompiled step where it is compiled.",
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
        "Wall-clock time of one optimizer step of one batch, of several tasks of all their turns, "
        "with no meter attached, every sample of every round; data loading is not in it.",
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
    **{
        f"{phase}_seconds": Metric(
            "s",
            "lower",
            f"Wall-clock time of the {phase} part of a step, synchronised at both ends, in a loop "
            "apart from step_seconds; micro-batches added up. An optimizer in the backward pass is "
            "backward.",
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
        "Time torch.compile took, by its own clock, for the forward and backward pass of a "
        "training step, before the first timed step; evaluation's compilation is not in it. One "
        "thread compiles, and with an empty cache: later visits reuse the first one's code, so "
        "it is the most any visit took.",
        display="seconds",
        measured_by=("clock",),
        needs=("compiled step",),
        tables=(TableColumn("work", 70, "compile s"),),
        page=PageColumn(TIME, 590, "compile s"),
    ),
    "joules_per_image": Metric(
        "J",
        "lower",
        "Energy by the device's own counter (NVML; RAPL's processor packages) over the timed "
        "steps of a visit, over the images in them; what else the device did is in it.",
        display="joules",
        measured_by=("clock",),
        samples=True,
        judged=Judgement("in turns", 180),
        tables=(TableColumn("work", 80, "J / image"),),
        page=PageColumn(TIME, 580, "energy an image J", over="energy"),
    ),
    "images_per_second": Metric(
        "1/s",
        "higher",
        "Images of a step over the median of step_seconds.",
        display="rate",
        rate_of="step_seconds",
        tables=(TableColumn("main", 70, "img/s"),),
        page=PageColumn(TIME, 560, "images 1/s"),
    ),
    "evaluation_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of one forward pass of one batch, of several tasks of one each, in "
        "evaluation mode without gradients, every sample of every round.",
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
        "Images of a step over the median of evaluation_seconds.",
        display="rate",
        rate_of="evaluation_seconds",
        tables=(TableColumn("main", 80, "eval img/s"),),
        page=PageColumn(TIME, 570, "evaluation images 1/s"),
    ),
    "trained_parameters": Metric(
        "",
        "lower",
        "Elements of the parameters the optimizer is given.",
        display="millions",
        measured_by=("flops", "estimate", "training"),
        judged=Judgement("exact", 190),
        tables=(TableColumn("main", 90, "trained M", short="trained M", ranked=False),),
        page=PageColumn("Work", 440, "trained M", shown=True, over="trained"),
    ),
    "total_parameters": Metric(
        "",
        "none",
        "Elements of all parameters of the prepared model.",
        display="millions",
        measured_by=("flops", "estimate"),
        page=PageColumn("Work", 450, "all parameters M"),
    ),
    "tokens_after_block": Metric(
        "tokens",
        "none",
        "Tokens each block passes on, class token included, as observed in the first training "
        "step, where a schedule of tokens starts.",
        display="count",
        measured_by=("flops",),
        samples=True,
        per="block",
        tables=(TableColumn("work", 90, "tokens", form="runs"),),
    ),
}
