"""BSR's two claims, memory and compute, tested under every definition against every baseline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import CONFIDENCE
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison, Details, compare
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.optimizer_rows import optimizer_of
from bsrbench.reports.compare.seed_pairing import (
    Pairing,
    are_alike,
    counted,
    mean_accuracy,
    named,
    tested,
)
from bsrbench.reports.wording.claim_factor import (
    INCONCLUSIVE,
    LESS,
    NOTHING,
    PERHAPS,
    REACHED,
    Factor,
    factors,
)
from bsrbench.reports.wording.markdown_syntax import escape, table_of
from bsrbench.reports.wording.notes import OWN_DATA, is_own

CLAIMED = {"memory": 1.4, "compute": 2.0}
COMPOSED = "+"  # joins the parts of a method
SOURCE = "Sarkar et al. 2024, arXiv:2405.10951, abstract"
INTRODUCTION = (
    "The abstract claims up to 1.4 times less training memory and up to 2 times less compute than "
    "the alternatives, at similar accuracy. The paper does not state in one place which memory, "
    "which compute and which alternatives are meant. The official code computes memory by its own "
    "convention and compute as the multiply-adds of a forward pass. Each claim is therefore tested "
    "under each definition, against each row that was measured in the same suite as BSR, with the "
    "same optimizer. A number is the cost of the row divided by the cost of BSR. Ratios of times "
    f"have a {100 * CONFIDENCE:g} % interval (Student's t of the logarithms of the ratios per "
    "process generation). **Bold**: the claim is reached by the number, or for times by the t "
    "test, with Holm's correction for the number of rows. ~: inconclusive, because that test does "
    "not pass, or because there are fewer than three generations and so no interval. 'full' uses "
    "fused attention, and all rows have the same batch size. Micro-batches and checkpointing are "
    "standard baselines."
)
IN_SHORT = (
    "For each question below, the table lists the rows against which each claim holds. Rows "
    "without a number are left out. If a claim holds against some of the other rows, the cell has "
    "the shorter list: 'only' and the rows against which it holds, or 'all except' and the rows "
    "against which it does not. Both claims are made at similar accuracy; the last line has the "
    "mean accuracies."
)


@dataclass(frozen=True)
class Definition:
    """One definition under which a claim is tested.

    Attributes:
        words: the name of the definition on the page.
        metric: the metric that is compared.
        claim: the claimed factor.
    """

    words: str
    metric: str
    claim: float


_LINES = sorted(
    (metric.claim.place, name, metric.claim) for name, metric in METRICS.items() if metric.claim
)
DEFINITIONS = tuple(Definition(line.words, name, CLAIMED[line.claim]) for _, name, line in _LINES)


@dataclass(frozen=True)
class ClaimQuestion:
    """One question: the row of BSR, and the comparison with the rows of the alternatives."""

    comparison: Comparison
    ours: ComparisonRow

    @cached_property
    def others(self) -> list[ComparisonRow]:
        """Return the alternatives: rows with the same optimizer, whose method has no BSR in it."""
        own = optimizer_of(self.ours)
        rows = [row for row in self.comparison.rows if BASELINE not in _parts(row)]
        return [row for row in rows if optimizer_of(row) == own]

    @cached_property
    def shown(self) -> list[Definition]:
        """Return the definitions that have a factor, without predictions of measured metrics."""
        return [
            definition
            for definition in DEFINITIONS
            if any(self.factors(definition)) and not self.ours.is_superseded(definition.metric)
        ]

    def factors(self, definition: Definition) -> list[Factor | None]:
        """Return the factor of each alternative under a definition."""
        return factors(self.comparison, self.others, definition.metric, definition.claim)


def _parts(row: ComparisonRow) -> list[str]:
    return row.spec.method.split(COMPOSED)


def page(records: Iterable[TrialRecord], details: Details) -> str:
    """Return the page as Markdown: a summary, then numbers and verdicts for each question."""
    anchored = [(comparison, comparison.find(BASELINE)) for comparison in compare(records, details)]
    questions = [
        ClaimQuestion(comparison, ours) for comparison, ours in anchored if ours is not None
    ]
    parts = ["# Which of BSR's claims hold", f"{INTRODUCTION}\n\nClaims: {SOURCE}."]
    if questions:
        parts += _in_short(questions)
    for number, question in enumerate(questions, start=1):
        parts += _question(number, question)
    return "\n\n".join(parts) + "\n"


def _in_short(questions: Sequence[ClaimQuestion]) -> list[str]:
    """Return the summary table: for each question, the rows against which each claim holds."""
    metrics = {definition for question in questions for definition in question.shown}
    rows = [
        [d.words, units.ratio(d.claim), *(holds_against(question, d) for question in questions)]
        for d in DEFINITIONS
        if d in metrics
    ]
    rows.append(["accuracy of bsr (of full)", "similar", *map(_accuracy_of_both, questions)])
    titles = ["definition", "claim", *(f"question {n}" for n in range(1, len(questions) + 1))]
    return ["## In short", IN_SHORT, table_of(titles, rows)]


def holds_against(asked: ClaimQuestion, definition: Definition) -> str:
    """Return the rows against which a claim holds; for times, by the corrected test."""
    of_rows = zip(asked.others, asked.factors(definition), strict=True)
    known = {row.label: factor for row, factor in of_rows if factor}
    if not known or definition not in asked.shown:
        return units.NOTHING
    reached = [label for label, factor in known.items() if factor.reaches(definition.claim)]
    open_ = sum(factor.reach(definition.claim) == INCONCLUSIVE for factor in known.values())
    undecided = f" ({INCONCLUSIVE} {open_} of {len(known)})" if open_ else ""
    return _shorter(list(known), reached) + undecided


def _shorter(known: list[str], reached: list[str]) -> str:
    """Return the shorter list: the rows against which a claim holds, or all other rows."""
    left = [label for label in known if label not in reached]
    if not left:
        return "all"
    if not reached:
        return "none"
    if len(left) <= len(reached):
        return f"all except {', '.join(left)}"
    return f"only {', '.join(reached)}"


def _accuracy_of_both(asked: ClaimQuestion) -> str:
    """Return the mean accuracies of BSR and of full, over the seeds that both rows have."""
    full = asked.comparison.find(REFERENCE)
    seeds = Pairing.of(asked.ours, full) if full else Pairing(tested(asked.ours), ())
    if not seeds.new:
        return units.NOTHING
    if full is None or not seeds.baseline:
        return f"{units.share(mean_accuracy(asked.ours, seeds.new))} ({units.NOTHING})"
    if not seeds.both:
        return "no seed in both"
    ours, theirs = (units.share(mean_accuracy(row, seeds.both)) for row in (asked.ours, full))
    return f"{ours} ({theirs})" + (f", {named(seeds.both)}" if seeds.is_unequal() else "")


def _question(number: int, asked: ClaimQuestion) -> list[str]:
    comparison, ours, others, shown = asked.comparison, asked.ours, asked.others, asked.shown
    parts = [f"## {number}. {escape(comparison.title())}"]
    if shown:
        titles = ["definition", "claim", *(row.label for row in others)]
        rows = [
            [d.words, units.ratio(d.claim), *(_cell(f, d) for f in asked.factors(d))] for d in shown
        ]
        parts.append(table_of(titles, rows))
        parts.append("\n".join(f"- {_verdict(asked, d)}" for d in shown))
    disturbed = [escape(r.label) for r in (ours, *others) if any(map(_is_of_timing, r.notes()))]
    if disturbed:
        parts.append(f"Times have notes about disturbances: {', '.join(disturbed)}.")
    accuracies = _accuracies([ours, *others])
    if accuracies:
        parts += [
            "Accuracy (mean over the seeds of each row, with the smallest and the largest value):",
            accuracies,
        ]
        if is_own(ours.spec.workload.data):
            parts.append(OWN_DATA)
    else:
        parts.append("There is no accuracy: nothing was trained here.")
    return parts


def _is_of_timing(note: Note) -> bool:
    return note.kind is NoteKind.TIMING


def _cell(factor: Factor | None, definition: Definition) -> str:
    if factor is None:
        return units.NOTHING
    if factor.reaches(definition.claim):
        return f"**{factor.text()}**"
    return factor.text() if factor.misses(definition.claim) else f"~{factor.text()}"


def _verdict(asked: ClaimQuestion, definition: Definition) -> str:
    """Return one sentence that says against which rows a claim holds."""
    claim = definition.claim
    labels: dict[str, list[str]] = {
        REACHED.format(claim): [],
        INCONCLUSIVE: [],
        LESS: [],
        PERHAPS: [],
        NOTHING: [],
    }
    for row, factor in zip(asked.others, asked.factors(definition), strict=True):
        if factor is not None:
            labels[factor.reach(claim)].append(escape(row.label))
    verdicts = [f"{what} {', '.join(rows)}" for what, rows in labels.items() if rows]
    return f"{definition.words}: {'; '.join(verdicts)}."


def _accuracies(rows: Sequence[ComparisonRow]) -> str:
    row_accuracies = [(row.label, row.accuracy(), tested(row)) for row in rows]
    cells = [
        [
            label,
            units.share(accuracy.centre),
            units.share(accuracy.low),
            units.share(accuracy.high),
            units.count(len(seeds)) if are_alike(rows) else counted(seeds),
        ]
        for label, accuracy, seeds in row_accuracies
        if accuracy is not None
    ]
    return table_of(["method", "accuracy", "smallest", "largest", "seeds"], cells) if cells else ""
