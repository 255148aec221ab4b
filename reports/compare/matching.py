"""Pairs of rows of two sides, and the rows that have no counterpart."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Gathered
from bsrbench.harness.spec.row_name import LEARNING_RATE, MACHINE
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.contrast import Pair
from bsrbench.reports.compare.counterparts import UnpairedRow, without_counterpart
from bsrbench.reports.compare.selection import PlacedRow, Side, goes_by_name, sides

# Rows that differ in one of these do not answer the same question.
GUARDED = ("model", "data", "image_size", "classes", "batch")
Pairing = tuple[PlacedRow, PlacedRow]


@dataclass(frozen=True)
class Matching:
    """The rows that two names select, in pairs.

    Attributes:
        pairs: rows that answer one question, in the order of the new ones.
        alone: rows of either side without a pair.
        said: notes for the user about how the names were understood.
    """

    pairs: tuple[Pair, ...]
    alone: tuple[UnpairedRow, ...]
    said: tuple[str, ...]


def match(new: str, baseline: str, pool: Gathered, *, even_unlike: bool = False) -> Matching:
    """Pair the rows of one name with those of another.

    Rows of folders, commits and records are matched by method, options and axes. If several rows
    match, those with the same machine and learning rate are preferred. Rows that are named
    directly are paired as they are.

    Args:
        new: a row, a record's file, a results folder or a commit, as in ``sides``.
        baseline: the same.
        pool: the results in which rows and commits are looked up.
        even_unlike: also pair rows that differ in model, data set, image size, batch or axes.

    Raises:
        BadInput: a side selects nothing, or is ambiguous, or the two have no common question.
    """
    ours, theirs = sides(new, baseline, pool)
    if {id(placed.row) for placed in ours.rows} == {id(placed.row) for placed in theirs.rows}:
        raise BadInput(f"{new!r} and {baseline!r} are the same rows: nothing to compare")
    paired = _paired(ours, theirs)
    beside = "" if paired else " (beside another setting)"
    paired = paired or _unlike(ours, theirs, even_unlike=even_unlike)
    details = ours.details, theirs.details
    pairs = [Pair(a.row, b.row, f"{a.comparison.title()}{beside}", details) for a, b in paired]
    said = (*ours.said, *theirs.said)
    return Matching(tuple(pairs), tuple(without_counterpart(ours, theirs, _rows_of(paired))), said)


def _rows_of(paired: Iterable[Pairing]) -> list[ComparisonRow]:
    return [placed.row for pairing in paired for placed in pairing]


def _paired(ours: Side, theirs: Side) -> list[Pairing]:
    """Return the rows of two sides that answer one question and belong together."""
    by_name = goes_by_name(ours, theirs)
    groups: dict[Hashable, tuple[list[PlacedRow], list[PlacedRow]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((ours, theirs)):
        for placed in side.rows:
            key = placed.comparison.question(), placed.row.name if by_name else None
            groups[key][place].append(placed)
    together = _of_one_name if by_name else _of_one_question
    found = [pairing for new, old in groups.values() for pairing in together(new, old)]
    places = {id(placed.row): place for place, placed in enumerate(ours.rows)}
    return sorted(found, key=lambda pairing: places[id(pairing[0].row)])


def _of_one_question(new: Sequence[PlacedRow], old: Sequence[PlacedRow]) -> list[Pairing]:
    """Return every new row with every old one, if possible of the same machine."""
    found = []
    for one in new:
        near = [other for other in old if other.row.machine() == one.row.machine()]
        found += [(one, other) for other in near or old if other.row is not one.row]
    return found


def _of_one_name(new: Sequence[PlacedRow], old: Sequence[PlacedRow]) -> list[Pairing]:
    """Return the most similar pairs; each row is in at most one pair."""
    found: list[Pairing] = []
    for alike in ((MACHINE, LEARNING_RATE), (MACHINE,), (LEARNING_RATE,), ()):
        used = {id(placed.row) for pairing in found for placed in pairing}
        found += [
            (one, other)
            for one in new
            for other in old
            if not {id(one.row), id(other.row)} & used and _are_alike(one.row, other.row, alike)
        ]
    return found


def _are_alike(row: ComparisonRow, other: ComparisonRow, kinds: Iterable[str]) -> bool:
    ours, theirs = row.apart(), other.apart()
    return row is not other and all(ours[kind] == theirs[kind] for kind in kinds)


def _unlike(ours: Side, theirs: Side, *, even_unlike: bool) -> list[Pairing]:
    """Return pairs of rows with different questions, if this is requested or harmless."""
    every = [(one, other) for one in ours.rows for other in theirs.rows if one.row is not other.row]
    if goes_by_name(ours, theirs):
        every = _of_one_method(ours, theirs, every, even_unlike=even_unlike)
    harmless = [(one, other) for one, other in every if not _guarded(one.row, other.row)]
    if not harmless and not even_unlike:
        raise BadInput(
            f"{ours.name!r} and {theirs.name!r} do not have the same workload: "
            f"{'; '.join(_guarded(every[0][0].row, every[0][1].row))}. Run both in one suite, or "
            "compare them anyway with --unlike"
        )
    return harmless or every


def _of_one_method(
    ours: Side, theirs: Side, every: list[Pairing], *, even_unlike: bool
) -> list[Pairing]:
    """Return the pairs of rows of the same name, or on request of the same method and options."""
    named = [(one, other) for one, other in every if one.row.name == other.row.name]
    if named:
        return named
    alike = [(one, other) for one, other in every if _differ_in_axes(one.row, other.row)]
    if alike and even_unlike:
        return alike
    none = f"no row of {ours.name!r} has a counterpart in {theirs.name!r}"
    if not alike:
        raise BadInput(f"{none}: rows are matched by method, options and axes")
    (one, other), *_ = alike
    raise BadInput(
        f"{none}: {one.row.label} has other axes there "
        f"({', '.join(other.row.spec.workload.axes(one.row.spec.workload))}); compare them anyway "
        "with --unlike"
    )


def _differ_in_axes(row: ComparisonRow, other: ComparisonRow) -> bool:
    return replace(row.name, axes=()) == replace(other.name, axes=())


def _guarded(row: ComparisonRow, other: ComparisonRow) -> list[str]:
    ours, theirs = row.spec.workload, other.spec.workload
    return [
        f"{name} {getattr(ours, name)} and {getattr(theirs, name)}"
        for name in GUARDED
        if getattr(ours, name) != getattr(theirs, name)
    ]
