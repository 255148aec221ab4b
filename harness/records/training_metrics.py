"""The metrics that a training gives."""

from bsrbench.harness.records.metric import FigurePart, Judgement, Metric, PageColumn, TableColumn

RESULT = "Result"

TRAINING: dict[str, Metric] = {
    "accuracy_top1": Metric(
        "",
        "higher",
        "Share of the test split whose highest logit is the label; the split is read once, "
        "after the last step. Of several tasks, the mean over tasks.",
        display="share",
        measured_by=("training",),
        values="share",
        needs=("test split",),
        words="test accuracy",
        judged=Judgement("by seed", 10),
        tables=(
            TableColumn("main", 10, "accuracy [range]", form="spread", short="accuracy"),
            TableColumn("paper", 10, "accuracy", form="spread"),
        ),
        page=PageColumn(RESULT, 10, "accuracy", shown=True),
    ),
    "validation_accuracy_top1": Metric(
        "",
        "higher",
        "The same on the validation split; only tries of learning rates have it.",
        display="share",
        measured_by=("training",),
        values="share",
        needs=("validation split",),
    ),
    "accuracy_by_task": Metric(
        "",
        "higher",
        "The accuracy of each of several tasks, in the order of the workload's tasks, on the split "
        "that was read after the last step; accuracy_top1 is their mean.",
        display="share",
        measured_by=("training",),
        samples=True,
        per="task",
        values="share",
        needs=("several tasks",),
    ),
    "busiest_experts_share": Metric(
        "",
        "none",
        "Share of the tokens that a gate sends to its top_k busiest experts, over the split that "
        "was read after the last step, the most of any gate: top_k over the number of experts "
        "where all are equally busy, 1 where every token goes to the same ones.",
        display="share",
        measured_by=("training",),
        values="share",
        needs=("several tasks", "experts"),
        page=PageColumn(RESULT, 20, "busiest experts' share"),
    ),
    "training_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of all training steps of the trial, data and compilation included.",
        display="seconds",
        measured_by=("training",),
        # Trainings are not timed in turns: none is called the fastest.
        page=PageColumn(RESULT, 40, "training s", ranked=False),
    ),
    "curve_steps": Metric(
        "",
        "none",
        "Steps after which the validation split was read during training.",
        display="count",
        measured_by=("training",),
        samples=True,
        per="reading",
        needs=("curve",),
        figures=(FigurePart("curve-steps", "training steps"),),
    ),
    "curve_seconds": Metric(
        "s",
        "none",
        "training_seconds until each of curve_steps; what reading took is not in it.",
        display="seconds",
        measured_by=("training",),
        samples=True,
        per="reading",
        needs=("curve",),
        figures=(FigurePart("curve-seconds", "seconds of training"),),
    ),
    "curve_accuracies": Metric(
        "",
        "higher",
        "Validation accuracy after each of curve_steps.",
        display="share",
        measured_by=("training",),
        samples=True,
        per="reading",
        values="share",
        needs=("curve",),
    ),
    "final_loss": Metric(
        "nat",
        "lower",
        "Mean loss (cross-entropy, with the recipe's label smoothing) over the last five batches.",
        display="plain",
        measured_by=("training",),
        values="signed",
        page=PageColumn(RESULT, 30, "final loss"),
    ),
}
