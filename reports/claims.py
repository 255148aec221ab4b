"""BSR's two claims, memory and compute, put against every definition and every plain baseline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.metrics import METRICS
from harness.record import TrialRecord
from reports import units
from reports.comparison import BASELINE, REFERENCE, Comparison, Details, compare
from reports.markdown import escape, table_of
from reports.row import Row
from reports.words import OWN_DATA, is_own

MEMORY_CLAIM, COMPUTE_CLAIM = 1.4, 2.0
PREDICTED = "peak_estimated_bytes"  # what was measured needs no prediction
SOURCE = "Sarkar et al. 2024, arXiv:2405.10951, abstract"
INTRODUCTION = (
    "The abstract claims up to 1.4 times less training memory and up to 2 times less compute than "
    "the alternatives, at similar accuracy. It does not say in one place which memory, which "
    "compute and which alternatives; the official code counts memory by a convention of its own "
    "and compute as multiply-adds of a forward pass. So each claim is put against each definition "
    "and each row that a suite measured beside BSR. A number says how many times as much the row "
    "needs as BSR. **Bold** reaches the claim, times in every round in which both were timed; ~ "
    "reaches it in some rounds and not in others. 'full' runs fused attention, and rows are at "
    "the same batch; micro-batches and checkpointing are plain baselines, which anybody has."
)
IN_SHORT = (
    "Against which rows each claim holds, in each of the questions below; where it is not all of "
    "those that have a number, the shorter list is given. The claim of similar accuracy belongs to "
    "each of the others: the last line has the means."
)


@dataclass(frozen=True)
class Definition:
    """One way to read a claim.

    Attributes:
        words: what is compared.
        metric: whose values are.
        claim: the factor claimed.
    """

    words: str
    metric: str
    claim: float


DEFINITIONS = (
    Definition("memory, paper convention", "paper_convention_bytes", MEMORY_CLAIM),
    Definition("memory, counted", "peak_counted_bytes", MEMORY_CLAIM),
    Definition("memory, allocated", "peak_allocated_bytes", MEMORY_CLAIM),
    Definition("memory, counted, predicted", PREDICTED, MEMORY_CLAIM),
    Definition("memory, process", "peak_process_bytes", MEMORY_CLAIM),
    Definition("compute, forward MACs", "forward_macs", COMPUTE_CLAIM),
    Definition("compute, FLOPs of a training step", "step_flop", COMPUTE_CLAIM),
    Definition("time of a training step", "step_seconds", COMPUTE_CLAIM),
    Definition("time of evaluation", "evaluation_seconds", COMPUTE_CLAIM),
)


@dataclass(frozen=True)
class Asked:
    """One question: BSR and the rows it is put against."""

    comparison: Comparison
    ours: Row

    @cached_property
    def others(self) -> list[Row]:
        """Return the rows that are alternatives to BSR."""
        rows = self.comparison.rows
        return [row for row in rows if row is not self.ours and BASELINE not in row.label]

    @cached_property
    def shown(self) -> list[Definition]:
        """Return the definitions under which something was measured."""
        measured = self.ours.value("peak_counted_bytes") is not None
        return [
            definition
            for definition in DEFINITIONS
            if any(_factor(self.comparison, row, definition) for row in self.others)
            and not (measured and definition.metric == PREDICTED)
        ]


def page(records: Iterable[TrialRecord], details: Details) -> str:
    """Return the page as Markdown: all in short, then numbers and verdicts for each question."""
    found = [(comparison, comparison.find(BASELINE)) for comparison in compare(records, details)]
    asked = [Asked(comparison, ours) for comparison, ours in found if ours is not None]
    parts = ["# What holds of BSR's claims", f"{INTRODUCTION}\n\nClaims: {SOURCE}."]
    if asked:
        parts += _in_short(asked)
    for number, one in enumerate(asked, start=1):
        parts += _question(number, one)
    return "\n\n".join(parts) + "\n"


def _in_short(asked: Sequence[Asked]) -> list[str]:
    """Return a table of all claims and questions: against which rows each holds."""
    metrics = {definition for one in asked for definition in one.shown}
    rows = [
        [d.words, units.ratio(d.claim), *(_holds_against(one, d) for one in asked)]
        for d in DEFINITIONS
        if d in metrics
    ]
    rows.append(["accuracy of bsr (of full)", "similar", *map(_accuracy_of_both, asked)])
    titles = ["definition", "claim", *(f"question {n}" for n in range(1, len(asked) + 1))]
    return ["## In short", IN_SHORT, table_of(titles, rows)]


def _holds_against(asked: Asked, definition: Definition) -> str:
    """Return in few words the rows against which a claim holds, times in every round."""
    factors = {row.label: _factor(asked.comparison, row, definition) for row in asked.others}
    known = {label: factor for label, factor in factors.items() if factor}
    if not known or definition not in asked.shown:
        return units.NOTHING
    reached = [label for label, factor in known.items() if factor.least >= definition.claim]
    left = [label for label in known if label not in reached]
    if not left:
        return "all"
    if not reached:
        return "none"
    if len(left) <= len(reached):
        return f"all but {', '.join(left)}"
    return f"only {', '.join(reached)}"


def _accuracy_of_both(asked: Asked) -> str:
    ours, full = asked.ours.accuracy(), asked.comparison.find(REFERENCE)
    theirs = full.accuracy() if full else None
    if ours is None:
        return units.NOTHING
    return f"{units.share(ours.centre)} ({units.share(theirs.centre if theirs else None)})"


def _question(number: int, asked: Asked) -> list[str]:
    comparison, ours, others, shown = asked.comparison, asked.ours, asked.others, asked.shown
    parts = [f"## {number}. {escape(comparison.title())}"]
    if shown:
        titles = ["definition", "claim", *(row.label for row in others)]
        rows = [
            [d.words, units.ratio(d.claim), *(_cell(_factor(comparison, r, d), d) for r in others)]
            for d in shown
        ]
        parts.append(table_of(titles, rows))
        parts.append("\n".join(f"- {_verdict(comparison, others, d)}" for d in shown))
    disturbed = [escape(r.label) for r in (ours, *others) if any(map(_is_of_timing, r.notes()))]
    if disturbed:
        parts.append(f"Times to be read with care, for notes were taken: {', '.join(disturbed)}.")
    accuracies = _accuracies([ours, *others])
    if accuracies:
        parts += [
            "Accuracy beside it (mean over seeds, with the least and the largest):",
            accuracies,
        ]
        if is_own(ours.spec.workload.data):
            parts.append(OWN_DATA)
    else:
        parts.append("No accuracy stands beside it: nothing was trained here.")
    return parts


def _is_of_timing(note: str) -> bool:
    return note.startswith("timing: ")


@dataclass(frozen=True)
class Factor:
    """How many times as much a row needs as BSR; what is no time is the same in every round.

    Attributes:
        centre: over all rounds.
        least: in the round with the smallest.
        largest: in the round with the largest.
    """

    centre: float
    least: float
    largest: float


def _factor(comparison: Comparison, row: Row, definition: Definition) -> Factor | None:
    if METRICS[definition.metric].unit == "s":
        found = comparison.time_ratio(row, definition.metric, to=BASELINE)
        return Factor(found.centre, found.least, found.largest) if found else None
    ratio = comparison.ratio(row, definition.metric, to=BASELINE)
    return None if ratio is None else Factor(ratio, ratio, ratio)


def _cell(factor: Factor | None, definition: Definition) -> str:
    if factor is None:
        return units.NOTHING
    shown = units.ratio(factor.centre)
    if factor.least >= definition.claim:
        return f"**{shown}**"
    return f"~{shown}" if factor.largest >= definition.claim else shown


def _verdict(comparison: Comparison, others: Sequence[Row], definition: Definition) -> str:
    """Return in a sentence against which rows a claim holds."""
    claim = definition.claim
    sorted_out: dict[str, list[str]] = {
        f"{claim:g} times or more against": [],
        f"{claim:g} times or more in some rounds and not in others against": [],
        "less, but something, against": [],
        "nothing against": [],
    }
    reach, wavers, less, none = sorted_out.values()
    for row in others:
        factor = _factor(comparison, row, definition)
        if factor is None:
            continue
        if factor.least >= claim:
            place = reach
        elif factor.largest >= claim:
            place = wavers
        else:
            place = less if factor.centre > 1 else none
        place.append(escape(row.label))
    said = [f"{what} {', '.join(labels)}" for what, labels in sorted_out.items() if labels]
    return f"{definition.words}: {'; '.join(said)}."


def _accuracies(rows: Sequence[Row]) -> str:
    found = [(row.label, row.accuracy()) for row in rows]
    cells = [
        [
            label,
            units.share(one.centre),
            units.share(one.low),
            units.share(one.high),
            str(one.count),
        ]
        for label, one in found
        if one is not None
    ]
    return table_of(["method", "accuracy", "least", "largest", "seeds"], cells) if cells else ""
