"""The metrics of a training run."""

from bsrbench.harness.records.metric import FigurePart, Judgement, Metric, PageColumn, TableColumn

RESULT = "Result"

TRAINING: dict[str, Metric] = {
    "accuracy_top1": Metric(
        "",
        "higher",
        "Top-1 accuracy on the test split, which is read once, after the last step. With several "
        "tasks: the mean over tasks.",
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
        "Top-1 accuracy on the validation split after the last step. Only the trials of a "
        "learning-rate search have it.",
        display="share",
        measured_by=("training",),
        values="share",
        needs=("validation split",),
    ),
    "accuracy_by_task": Metric(
        "",
        "higher",
        "Top-1 accuracy of each task, in the order of the workload's tasks, on the split that was "
        "read after the last step. accuracy_top1 is their mean.",
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
        "was read after the last step; the largest value of all gates. It is top_k divided by the "
        "number of experts if all are equally busy, and 1 if every token goes to the same experts.",
        display="share",
        measured_by=("training",),
        values="share",
        needs=("several tasks", "experts"),
        page=PageColumn(RESULT, 20, "busiest experts' share"),
    ),
    "training_seconds": Metric(
        "s",
        "lower",
        "Wall-clock time of all training steps of the trial, waiting for data and compilation "
        "included. Images are decoded before the first step, as far as they fit into memory.",
        display="seconds",
        measured_by=("training",),
        # Training runs are not timed in turns, so none is marked as the fastest.
        page=PageColumn(RESULT, 40, "training s", ranked=False),
    ),
    "data_wait_share": Metric(
        "",
        "lower",
        "Share of training_seconds in which the host waited for the images of the next step to be "
        "prepared and on the device. The device has nothing to do in this time.",
        display="share",
        measured_by=("training",),
        values="share",
        page=PageColumn(RESULT, 45, "waiting for data", ranked=False),
    ),
    "curve_steps": Metric(
        "",
        "none",
        "Numbers of completed training steps at which the validation split was read.",
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
        "Training time until each of curve_steps, without the time for reading the validation "
        "split.",
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
        "Validation accuracy at each of curve_steps.",
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
        "Mean loss (cross-entropy, with the recipe's label smoothing) over the last five batches; "
        "in fp16, over those of them whose loss was finite. If a step has several forward passes, "
        "it is the mean over them, without other terms of a method's loss.",
        display="plain",
        measured_by=("training",),
        values="signed",
        page=PageColumn(RESULT, 30, "final loss"),
    ),
    "skipped_steps": Metric(
        "",
        "lower",
        "Optimizer steps of the training that were skipped because a gradient was not finite in "
        "fp16. With several tasks, each task's turn has an optimizer step of its own.",
        display="count",
        measured_by=("training",),
        needs=("fp16",),
        page=PageColumn(RESULT, 50, "skipped steps"),
    ),
}
