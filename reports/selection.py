"""Which rows a person means by a method, a record, a results folder or a commit."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadInput, unknown
from harness.record import TrialRecord
from harness.record_files import read_record
from harness.store import Gathered, Store, gather
from reports.comparison import Comparison, Details, compare
from reports.contrast import Pair
from reports.row import Row

COMMIT = "commit:"
# Rows that differ in these were asked different things, whatever else is the same.
GUARDED = ("model", "data", "image_size", "classes", "batch")
Question = tuple[str, str | None]


@dataclass(frozen=True)
class Side:
    """The rows one side of a comparison may mean.

    Attributes:
        name: as it was typed.
        method: whether it names a method; else it is a set of rows, matched by their labels.
        rows: each with the comparison it stands in.
        details: gives the sidecars of their records.
    """

    name: str
    method: bool
    rows: tuple[tuple[Comparison, Row], ...]
    details: Details


def pairs(new: str, baseline: str, pool: Gathered, *, even_unlike: bool = False) -> list[Pair]:
    """Return the rows to put against each other.

    Args:
        new: a method (as rows are labelled), a record's file, a results folder, or
            ``commit:HASH`` of records in the pool.
        baseline: the same.
        pool: where methods and commits are looked for.
        even_unlike: pair rows of another model, data set, image size or batch, too.

    Raises:
        BadInput: a side means nothing, or the two share no question.
    """
    there = compare(pool.records, pool.detail)
    ours, theirs = _side(new, pool, there), _side(baseline, pool, there)
    if theirs.method and not ours.method:  # a folder's own baseline comes first
        rows = _named(baseline, _comparisons_of(ours))
        theirs = Side(baseline, method=True, rows=rows, details=ours.details) if rows else theirs
    for side in (ours, theirs):
        if not side.rows:
            raise _nothing(side, pool, there or _comparisons_of(ours))
    if {id(row) for _, row in ours.rows} == {id(row) for _, row in theirs.rows}:
        raise BadInput(f"{new!r} and {baseline!r} are the same rows: nothing to compare")
    found = [
        Pair(row, other, comparison.title(), (ours.details, theirs.details))
        for comparison, row in ours.rows
        for other in _opposite(comparison, row, theirs)
        if other is not row
    ]
    return found or _unlike_pairs(ours, theirs, even_unlike=even_unlike)


def _side(name: str, pool: Gathered, there: list[Comparison]) -> Side:
    path, details = Path(name), pool.detail
    if name.startswith(COMMIT):
        records = _of_commit(name.removeprefix(COMMIT), pool.records)
    elif path.suffix == ".json":
        records, details = [read_record(path)], Store(path.resolve().parent.parent).detail
    elif path.is_dir():
        found = gather([path])
        records, details = found.records, found.detail
    else:
        return Side(name, method=True, rows=_named(name, there), details=details)
    return Side(name, method=False, rows=_all(records, details), details=details)


def _all(records: Iterable[TrialRecord], details: Details) -> tuple[tuple[Comparison, Row], ...]:
    return tuple((found, row) for found in compare(records, details) for row in found.rows)


def _named(name: str, comparisons: Iterable[Comparison]) -> tuple[tuple[Comparison, Row], ...]:
    return tuple(
        (found, row) for found in comparisons for row in found.rows if row.plain_label() == name
    )


def _comparisons_of(side: Side) -> list[Comparison]:
    return list({id(comparison): comparison for comparison, _ in side.rows}.values())


def _of_commit(start: str, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [r for r in records if start and str(r.environment.get("commit")).startswith(start)]


def _opposite(comparison: Comparison, row: Row, side: Side) -> list[Row]:
    """Return the rows of the other side that answer the same question, of one machine if any."""
    wanted = row.plain_label() if not side.method else side.name
    found = [
        other
        for there, other in side.rows
        if there.question() == comparison.question() and other.plain_label() == wanted
    ]
    return [other for other in found if other.machine() == row.machine()] or found


def _unlike_pairs(ours: Side, theirs: Side, *, even_unlike: bool) -> list[Pair]:
    """Return one pair of rows that were asked different things, if that is wanted or harmless."""
    candidates = [
        (there, row, other)
        for there, row in ours.rows
        for _, other in theirs.rows
        if ours.method or theirs.method or row.plain_label() == other.plain_label()
    ]
    if not candidates:
        raise BadInput(f"no row of {ours.name!r} has a counterpart in {theirs.name!r}")
    harmless = [found for found in candidates if not _guarded(*found[1:])]
    if not harmless and not even_unlike:
        _, row, other = candidates[0]
        raise BadInput(
            f"{ours.name!r} and {theirs.name!r} were not asked the same: "
            f"{'; '.join(_guarded(row, other))}. Run both in one suite, or compare all the same "
            "with --unlike"
        )
    return [
        Pair(
            row,
            other,
            f"{there.title()} (beside another setting)",
            (ours.details, theirs.details),
        )
        for there, row, other in harmless or candidates
    ]


def _guarded(row: Row, other: Row) -> list[str]:
    ours, theirs = row.spec.workload, other.spec.workload
    return [
        f"{name} {getattr(ours, name)} and {getattr(theirs, name)}"
        for name in GUARDED
        if getattr(ours, name) != getattr(theirs, name)
    ]


def _nothing(side: Side, pool: Gathered, comparisons: list[Comparison]) -> BadInput:
    if side.name.startswith(COMMIT):
        commits = sorted({str(r.environment.get("commit"))[:12] for r in pool.records})
        return unknown("commit", side.name.removeprefix(COMMIT), commits)
    if not side.method:
        return BadInput(f"{side.name}: no readable records in it")
    labels = {row.label for found in comparisons for row in found.rows}
    return unknown("method among the results", side.name, labels)
