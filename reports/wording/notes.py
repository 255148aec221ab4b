"""The sentences of a report: what was compared, the setting, the result, the definitions."""

from collections.abc import Iterable

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_environment import Environment
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.workload.packages import origin
from bsrbench.reports import units
from bsrbench.reports.compare import seed_pairing
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import NOT_TUNED
from bsrbench.reports.compare.data_wait import (
    bound_by_loader,
)
from bsrbench.reports.compare.disturbed_times import read_cpu_time
from bsrbench.reports.compare.metric_finding import JUDGED
from bsrbench.reports.compare.repeated_timings import STEP
from bsrbench.reports.compare.shared_training import trains_as
from bsrbench.reports.wording.columns import (
    COLUMNS,
    MEMORY_COLUMNS,
    WORK_COLUMNS,
    Column,
    over,
)
from bsrbench.reports.wording.cross_checks import cross_checks
from bsrbench.reports.wording.limits import limits
from bsrbench.reports.wording.timing_notes import coverage, timed_apart

UNEXPLAINED = (
    "peak_allocated_bytes minus workspace_bytes and minus the tensors counted at that moment. It "
    "is 0, except for scalars created outside operators; more than 1 % is noted. The counted peak "
    "may occur at another moment."
)
CAPTION = (
    "Accuracy: mean and range over seeds. Memory: counted peak of a training step. Bold: best "
    "value; dagger: the baseline; ~: interquartile range above 10 % of the median."
)
# The costs that a summary gives relative to the reference.
COSTS = tuple(
    name for name in JUDGED if METRICS[name].words and not METRICS[name].is_judged("by seed")
)
OWN_DATA = "The data set is not a published one: do not compare accuracies with published results."
NOT_SHARED = "Test accuracies are not compared: no seed was tested in all rows."


def summary(comparison: Comparison) -> list[str]:
    """Return paragraphs: the setting, the result, and the conclusions that are not possible."""
    if not comparison.rows:
        return ["There are no records to compare."]
    missing = limits(comparison)
    cannot = f"What cannot be concluded: {'; '.join(missing)}." if missing else ""
    paragraphs = [_setting(comparison), _finding(comparison), cannot]
    return [text for text in paragraphs if text]


def _setting(comparison: Comparison) -> str:
    workload = comparison.rows[0].spec.workload
    trained = next((s.training for r in comparison.rows if (s := r.trained())), None)
    image = f"{workload.image_size} px" if workload.image_size else "the model's own image size"
    text = (
        f"{len(comparison.rows)} rows on {workload.model} with weights {workload.weights!r}, data "
        f"{workload.data_name()!r} at {image}, batch {workload.batch}, {comparison.axes()}, "
        f"{workload.optimizer_in_words()}, device {workload.device}, {workload.threads} threads. "
        f"The weights are {origin(workload.weights)}."
    )
    if workload.multitask:
        text += f" {_tasks(workload.multitask)}"
    if any(is_own(name) for name in workload.tasks()):
        text += f" {OWN_DATA}"
    if trained:
        text += (
            f" Each row{_of_those(comparison)} was trained for {trained.steps} steps with "
            f"{_with_which_seeds(comparison)} and tested once per seed; memory, "
            "FLOPs and time were measured once per row."
        )
    return text + _rounds(comparison)


def _of_those(comparison: Comparison) -> str:
    """Return words that leave out the rows that were not trained; empty if there are none."""
    return " with a training of its own" if _not_trained(comparison) else ""


def _with_which_seeds(comparison: Comparison) -> str:
    if len(seed_pairing.groups(comparison.rows)) < 2:  # noqa: PLR2004 - all have the same
        return units.seeds(comparison.seeds())
    return f"its own seeds ({seed_pairing.in_short(comparison.rows)})"


def _rounds(comparison: Comparison) -> str:
    """Return the number of timing visits per row; empty if no row was timed."""
    counts = {rounds for row in comparison.rows if (rounds := row.rounds())}
    if not counts:
        return ""
    generations = {len(row.generations(STEP)) for row in comparison.rows if row.rounds()}
    processes = (
        "each in its own process"
        if generations == counts
        else f"in {_span(generations)} process generations"
    )
    covered = "".join(f" {note.capitalize()}." for note in coverage(comparison))
    return f" Times were measured in {_span(counts)} visits per row, {processes}.{covered}"


def _span(counts: set[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def is_own(data: str) -> bool:
    """Return whether a data set is the user's own, without published results."""
    return data.startswith(("pack:", "folder:"))


def _tasks(multitask: MultiTask) -> str:
    tasks = (
        f"The {len(multitask.tasks)} tasks take turns in a step; each has its own head, batch and "
        "optimizer step. Accuracy is the mean over tasks"
    )
    if not multitask.expert_blocks:
        return f"{tasks}. All blocks are shared."
    blocks = ", ".join(map(str, multitask.expert_blocks))
    return (
        f"{tasks}. Blocks {blocks} have {multitask.experts} experts instead of one MLP, "
        "initialised as copies of it, and one gate per task, which sends each token to "
        f"{multitask.top_k} experts."
    )


def _finding(comparison: Comparison) -> str:
    sentences = (_costs(comparison), _accuracies(comparison), _front(comparison))
    return " ".join(text for text in sentences if text)


def _costs(comparison: Comparison) -> str:
    row = comparison.find(BASELINE)
    if row is None or comparison.find(REFERENCE) is None:
        return ""
    parts = [
        f"{METRICS[metric].words} {cell}"
        for metric in COSTS
        if not row.is_superseded(metric)
        and (cell := over(metric)(comparison, row)) != units.NOTHING
    ]
    return f"Relative to {REFERENCE}, {BASELINE} needs: {', '.join(parts)}." if parts else ""


def _accuracies(comparison: Comparison) -> str:
    """Return the test accuracies of the reference, the baseline and the best row.

    If rows have different seeds, the means are over the seeds that all rows have.
    """
    rows = [row for row in comparison.rows if seed_pairing.tested(row)]
    both = seed_pairing.shared(rows)
    means = ((row, seed_pairing.mean_accuracy(row, both)) for row in rows)
    read = [(row, mean) for row, mean in means if mean is not None]
    if not read:
        return NOT_SHARED if rows else ""
    parts = [f"{row.label} {units.share(mean)}" for row, mean in read if comparison.leads(row)]
    highest, best_mean = max(read, key=lambda row_and_mean: row_and_mean[1])
    parts.append(f"highest {highest.label} {units.share(best_mean)}")
    over = (
        "seeds"
        if comparison.same_seeds
        else f"the {units.seeds(len(both))} that all rows have ({seed_pairing.in_words(both)})"
    )
    return f"Test accuracy, mean over {over}: {', '.join(parts)}."


def _front(comparison: Comparison) -> str:
    front = [member.label for member in comparison.pareto_front()]
    if not front:
        return ""
    return f"On the Pareto front of accuracy and counted peak memory: {', '.join(front)}."


def provenance(comparisons: list[Comparison]) -> list[str]:
    """Return the machines on which numbers were measured, and whether their meters were checked.

    There is one line per machine (hardware, versions, commit), and one per machine and device.
    """
    machines = {e.machine_id: e for c in comparisons for e in c.machines()}
    made = [_made_on(environment) for environment in machines.values()]
    return [*made, *cross_checks(row for c in comparisons for row in c.rows)]


def _made_on(environment: Environment) -> str:
    machine = environment.machine
    state = {True: "changed since", False: "clean", None: "unknown"}[environment.tree_dirty]
    versions = (f"{name} {version}" for name, version in environment.versions.items())
    return (
        f"machine {environment.machine_id}: {machine.processor}, "
        f"{machine.cores} cores ({', '.join(machine.instruction_sets)}), "
        f"{units.mebibytes(machine.memory_bytes)} MiB, {machine.system}; {', '.join(versions)}; "
        f"commit {environment.commit or 'unknown'}, tree {state}"
    )


def definitions() -> list[tuple[str, str]]:
    """Return the definition of every metric in the tables, in the order of the columns."""
    columns = (*COLUMNS, *MEMORY_COLUMNS, *WORK_COLUMNS)
    shown = [(metric, METRICS[metric].definition) for metric in _shown(columns)]
    return [*shown, ("unexplained", UNEXPLAINED)]


def failures(comparison: Comparison) -> list[str]:
    """Return one line for each trial that did not complete."""
    return [f"{row.label}, {line}" for row in comparison.rows for line in row.failures()]


def absences(comparison: Comparison) -> list[str]:
    """Return the reasons for missing values in the tables of the profiles, each reason once."""
    profiles = [(row, record) for row in comparison.rows if (record := row.profiled())]
    labels: dict[tuple[str, str], list[str]] = {}
    for metric in _shown((*MEMORY_COLUMNS, *WORK_COLUMNS)):
        for row, record in profiles:
            if record.measurements.get(metric) is None and not row.failures():
                labels.setdefault((metric, record.missing[metric].in_words()), []).append(row.label)
    return [
        f"{metric}, {'all rows' if len(rows) == len(profiles) else ', '.join(rows)}: {why}"
        for (metric, why), rows in labels.items()
    ]


def _shown(columns: Iterable[Column]) -> list[str]:
    """Return the metrics of columns, in order and without duplicates."""
    return list(dict.fromkeys(column.metric for column in columns if column.metric))


def _notes(comparison: Comparison) -> list[str]:
    """Return the notes of the records; a note that all rows have is given once."""
    of_rows = [row.notes() for row in comparison.rows]
    common = [
        note for note in (of_rows[0] if of_rows[1:] else []) if all(note in n for n in of_rows)
    ]
    return [f"all rows: {note.text}" for note in common] + [
        f"{row.label}: {note.text}"
        for row, notes in zip(comparison.rows, of_rows, strict=True)
        for note in notes
        if note not in common
    ]


def _not_trained(comparison: Comparison) -> list[str]:
    """Return which rows were only profiled because another row's training is the same."""
    return [
        f"{row.label}: only profiled; its training is the same as that of {same} by construction, "
        f"so its accuracy is that of {same}"
        for row in comparison.rows
        if (same := trains_as(row))
    ]


def _different_seeds(comparison: Comparison) -> list[str]:
    """Return which rows were tested with which seeds, if seeds differ."""
    no_best = "seeds differ from row to row, so no accuracy is marked as the best"
    return [*([] if comparison.same_seeds else [no_best]), *seed_pairing.of_each(comparison.rows)]


def doubts(comparison: Comparison) -> list[str]:
    """Return the notes that readers of the numbers need, one line each."""
    waits = [f"{row.label}: {note}" for row in comparison.rows for note in bound_by_loader(row)]
    disturbed = [*_notes(comparison), *read_cpu_time(comparison.rows)]
    noted = [*_different_seeds(comparison), *_not_trained(comparison), *timed_apart(comparison)]
    noted += [*waits, *disturbed]
    rates = [(row.label, doubt) for row in comparison.rows for doubt in row.doubts_about_its_rate()]
    trained = sum(row.trained() is not None for row in comparison.rows)
    if [doubt for _, doubt in rates] == [NOT_TUNED] * trained:
        return noted  # no row was tuned, and the table already says so
    return noted + [f"{label}: {doubt}" for label, doubt in rates]
