"""The rows that a name selects: a method, a record, a results folder or a commit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import Gathered, Store, changed_in, gather
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.row_choice import ListedRow, pick, unknown_row
from bsrbench.reports.compare.comparison import Comparison, Details, compare
from bsrbench.reports.compare.comparison_row import ComparisonRow

COMMIT = "commit:"


class SideKind(Enum):
    """What the name of one side of a comparison is."""

    METHOD = "rows named by their label"
    RECORD = "one record's file"
    SET = "all rows of a folder or a commit"


@dataclass(frozen=True)
class PlacedRow:
    """A row, and the comparison that contains it."""

    comparison: Comparison
    row: ComparisonRow


@dataclass(frozen=True)
class Side:
    """The rows that one side of a comparison selects.

    Attributes:
        name: the name as typed.
        kind: what the name is.
        rows: the rows.
        details: returns the sidecars of their records.
        said: notes for the user: which records were set aside, and which rows are selected if the
            name does not show it.
    """

    name: str
    kind: SideKind
    rows: tuple[PlacedRow, ...]
    details: Details
    said: tuple[str, ...] = ()

    def comparisons(self) -> list[Comparison]:
        """Return the comparisons that contain the rows, without duplicates."""
        return list({id(placed.comparison): placed.comparison for placed in self.rows}.values())


def goes_by_name(ours: Side, theirs: Side) -> bool:
    """Return whether rows of two sides are matched by method, options and axes.

    Rows of a folder or a commit are matched. Rows that are named directly, by label or by the file
    of their record, are compared with each other without matching.
    """
    return theirs.kind is SideKind.SET or (
        theirs.kind is SideKind.RECORD and ours.kind is SideKind.SET
    )


def sides(new: str, baseline: str, pool: Gathered) -> tuple[Side, Side]:
    """Return the rows that two names select.

    Args:
        new: a row (by its label, see ``pick``), a record's file, a results folder, or
            ``commit:HASH`` of records in the pool.
        baseline: the same; a row is first looked up in the comparisons of the new rows.
        pool: the results in which rows and commits are looked up.

    Raises:
        BadInput: a name selects nothing, or is ambiguous.
    """
    there = compare(pool.records, pool.detail)
    ours = _side(new, pool, there)
    if not ours.rows:
        raise _nothing(ours, pool, there)
    own = ours if ours.kind is not SideKind.METHOD else None
    theirs = _side(baseline, pool, there, own)
    if not theirs.rows:
        raise _nothing(theirs, pool, there or (own.comparisons() if own else []))
    return ours, theirs


def _side(
    name: str, pool: Gathered, there: Sequence[Comparison], first: Side | None = None
) -> Side:
    """Return what a name selects; a row is looked up in ``first``, then in ``there``."""
    if name.startswith(COMMIT):
        records = _of_commit(name.removeprefix(COMMIT), pool.records)
        return Side(name, SideKind.SET, _all(records, pool.detail), pool.detail)
    if name.endswith(".json"):
        return _of_record(Path(name))
    if "/" in name and is_folder(name):
        return _of_folder(name)
    own: list[tuple[Sequence[Comparison], Details]]
    own = [(first.comparisons(), first.details)] if first else []
    for comparisons, details in (*own, (there, pool.detail)):
        side = _named(name, comparisons, details)
        if side.rows and is_folder(name):
            return replace(
                side,
                said=(f"{name!r} is read as the name of a row; for the folder, write './{name}'",),
            )
        if side.rows:
            return side
    return _of_folder(name) if is_folder(name) else Side(name, SideKind.METHOD, (), pool.detail)


def is_folder(name: str) -> bool:
    """Return whether a name is the name of a folder."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # a label may be too long for a file name, or contain a null byte
        return False


def _of_record(path: Path) -> Side:
    record = read_record(path)
    pool = Gathered([record], [], (Store(path.resolve().parent.parent),))
    pool.detail(record.key)  # read the sidecar now, so that ``doubts`` lists its problems
    notes = [f"note: {doubt}" for doubt in (*changed_in([record]), *pool.doubts)]
    rows = _all([record], pool.detail)
    return Side(str(path), SideKind.RECORD, rows, pool.detail, tuple(notes))


def _of_folder(name: str) -> Side:
    gathered = gather([Path(name)])
    set_aside = [f"set aside: {reason}" for reason in gathered.aside]
    notes = (*set_aside, *(f"note: {doubt}" for doubt in gathered.doubts))
    return Side(name, SideKind.SET, _all(gathered.records, gathered.detail), gathered.detail, notes)


def _all(records: Iterable[TrialRecord], details: Details) -> tuple[PlacedRow, ...]:
    return tuple(
        PlacedRow(comparison, row)
        for comparison in compare(records, details)
        for row in comparison.rows
    )


def _named(name: str, comparisons: Iterable[Comparison], details: Details) -> Side:
    placed = [PlacedRow(comparison, row) for comparison in comparisons for row in comparison.rows]
    choice = pick(name, [_listed(placed_row) for placed_row in placed])
    rows = tuple(placed[place] for place in choice.places)
    return Side(name, SideKind.METHOD, rows, details, (choice.said,) if choice.said else ())


def _listed(placed: PlacedRow) -> ListedRow:
    row, beside = placed.row, placed.comparison.reference.axis_values()
    return ListedRow(row.printed, row.name, beside, row.apart())


def _of_commit(start: str, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [r for r in records if start and (r.environment.commit or "").startswith(start)]


def _nothing(side: Side, pool: Gathered, comparisons: Iterable[Comparison]) -> BadInput:
    if side.name.startswith(COMMIT):
        commits = sorted({(r.environment.commit or "none")[:12] for r in pool.records})
        return unknown("commit", side.name.removeprefix(COMMIT), commits)
    if side.kind is not SideKind.METHOD:
        return BadInput(f"{side.name} contains no readable records")
    rows = [
        _listed(PlacedRow(comparison, row)) for comparison in comparisons for row in comparison.rows
    ]
    return unknown_row(side.name, rows, "among the results")
