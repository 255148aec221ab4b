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
from bsrbench.reports.compare.deciding_settings import unlike_kernels
from bsrbench.reports.compare.selection import PlacedRow, Side, goes_by_name, sides

# Rows that differ in one of these do not answer the same question.
GUARDED = ("model", "data", "image_size", "classes", "batch")
Pairing = tuple[PlacedRow, PlacedRow]


@dataclass(frozen=True)
class Matching:
    """The rows that two names select, in pairs.

    Attributes:
        pairs: rows that answer one question, in the order of the new ones.
        alone: rows of either side without a counterpart.
        said: notes for the user: how the names were understood.
    """

    pairs: tuple[Pair, ...]
    alone: tuple[UnpairedRow, ...]
    said: tuple[str, ...]


def match(new: str, baseline: str, pool: Gathered, *, even_unlike: bool = False) -> Matching:
    """Pair the rows that two names select.

    Rows of folders, commits and records are matched by method, options and axes. If several rows
    match, those with the same machine and learning rate are preferred. Rows that are named
    directly are paired without matching by name.

    Args:
        new: a row, a record's file, a results folder or a commit, as in ``sides``.
        baseline: the same.
        pool: the results in which rows and commits are looked up.
        even_unlike: also pair rows that differ in model, data set, image size, batch or axes, or
            in settings that choose kernels.

    Raises:
        BadInput: a name selects nothing or is ambiguous, or the two have no common question or
            other settings.
    """
    ours, theirs = sides(new, baseline, pool)
    if {id(placed.row) for placed in ours.rows} == {id(placed.row) for placed in theirs.rows}:
        raise BadInput(f"{new!r} and {baseline!r} are the same rows: nothing to compare")
    paired = _paired(ours, theirs)
    beside = "" if paired else " (beside another setting)"
    paired = paired or _unlike(ours, theirs, even_unlike=even_unlike)
    if not even_unlike:
        _require_like_kernels(paired)
    details = ours.details, theirs.details
    pairs = [Pair(a.row, b.row, f"{a.comparison.title()}{beside}", details) for a, b in paired]
    notes = (*ours.said, *theirs.said)
    return Matching(tuple(pairs), tuple(without_counterpart(ours, theirs, _rows_of(paired))), notes)


def _require_like_kernels(paired: Iterable[Pairing]) -> None:
    """Check that both rows of each pair were measured under the same choice of kernels.

    Raises:
        BadInput: precision, cuDNN or attention kernels differ, so a verdict would be about them.
    """
    for new, old in paired:
        if unlike := unlike_kernels(new.row.records, old.row.records):
            raise BadInput(
                f"{new.row.label!r} and {old.row.label!r} ran under different settings: "
                f"{'; '.join(unlike)}. Run both under the same settings, or compare them anyway "
                "with --unlike"
            )


def _rows_of(paired: Iterable[Pairing]) -> list[ComparisonRow]:
    return [placed.row for pairing in paired for placed in pairing]


def _paired(ours: Side, theirs: Side) -> list[Pairing]:
    """Return the pairs of rows that answer the same question."""
    by_name = goes_by_name(ours, theirs)
    groups: dict[Hashable, tuple[list[PlacedRow], list[PlacedRow]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((ours, theirs)):
        for placed in side.rows:
            key = placed.comparison.question(), placed.row.name if by_name else None
            groups[key][place].append(placed)
    together = _of_one_name if by_name else _of_one_question
    pairs = [pairing for new, old in groups.values() for pairing in together(new, old)]
    places = {id(placed.row): place for place, placed in enumerate(ours.rows)}
    return sorted(pairs, key=lambda pairing: places[id(pairing[0].row)])


def _of_one_question(new: Sequence[PlacedRow], old: Sequence[PlacedRow]) -> list[Pairing]:
    """Pair every new row with the old rows of its machine; if there are none, with all old rows."""
    pairs = []
    for new_row in new:
        same_machine = [
            old_row for old_row in old if old_row.row.machine() == new_row.row.machine()
        ]
        pairs += [
            (new_row, old_row) for old_row in same_machine or old if old_row.row is not new_row.row
        ]
    return pairs


def _of_one_name(new: Sequence[PlacedRow], old: Sequence[PlacedRow]) -> list[Pairing]:
    """Return the most similar pairs; each row is in at most one pair."""
    pairs: list[Pairing] = []
    for alike in ((MACHINE, LEARNING_RATE), (MACHINE,), (LEARNING_RATE,), ()):
        used = {id(placed.row) for pairing in pairs for placed in pairing}
        pairs += [
            (new_row, old_row)
            for new_row in new
            for old_row in old
            if not {id(new_row.row), id(old_row.row)} & used
            and _are_alike(new_row.row, old_row.row, alike)
        ]
    return pairs


def _are_alike(row: ComparisonRow, other: ComparisonRow, kinds: Iterable[str]) -> bool:
    ours, theirs = row.apart(), other.apart()
    return row is not other and all(ours[kind] == theirs[kind] for kind in kinds)


def _unlike(ours: Side, theirs: Side, *, even_unlike: bool) -> list[Pairing]:
    """Pair rows that answer different questions, if requested or if no guarded setting differs."""
    every = [
        (new_row, old_row)
        for new_row in ours.rows
        for old_row in theirs.rows
        if new_row.row is not old_row.row
    ]
    if goes_by_name(ours, theirs):
        every = _of_one_method(ours, theirs, every, even_unlike=even_unlike)
    harmless = [
        (new_row, old_row) for new_row, old_row in every if not _guarded(new_row.row, old_row.row)
    ]
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
    """Return pairs of rows with the same name, or on request with the same method and options."""
    named = [
        (new_row, old_row) for new_row, old_row in every if new_row.row.name == old_row.row.name
    ]
    if named:
        return named
    alike = [
        (new_row, old_row)
        for new_row, old_row in every
        if _differ_in_axes(new_row.row, old_row.row)
    ]
    if alike and even_unlike:
        return alike
    none = f"no row of {ours.name!r} has a counterpart in {theirs.name!r}"
    if not alike:
        raise BadInput(f"{none}: rows are matched by method, options and axes")
    (new_row, old_row), *_ = alike
    raise BadInput(
        f"{none}: {new_row.row.label} has other axes there "
        f"({', '.join(old_row.row.spec.workload.axes(new_row.row.spec.workload))}); compare "
        "them anyway with --unlike"
    )


def _differ_in_axes(row: ComparisonRow, other: ComparisonRow) -> bool:
    return replace(row.name, axes=()) == replace(other.name, axes=())


def _guarded(row: ComparisonRow, other: ComparisonRow) -> list[str]:
    ours, theirs = _guarded_settings(row), _guarded_settings(other)
    return [
        f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]
    ]


def _guarded_settings(row: ComparisonRow) -> dict[str, object]:
    """Return the settings that two rows must share; of the device only the family: ``cuda``."""
    workload = row.spec.workload
    settings: dict[str, object] = {name: getattr(workload, name) for name in GUARDED}
    return settings | {"device": workload.device.partition(":")[0]}
