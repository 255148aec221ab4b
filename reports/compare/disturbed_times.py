"""Rows whose wall clock was disturbed, and the metric to read instead."""

from collections.abc import Iterable

from bsrbench.harness.records.remarks import NoteKind
from bsrbench.reports.compare.comparison_row import ComparisonRow

CPU_SECONDS = "step_cpu_seconds"
READ_CPU_TIME = (
    "the wall clock was disturbed: compare the CPU time of a step (step_cpu_seconds) instead, "
    "which other programs change little"
)


def is_disturbed(row: ComparisonRow) -> bool:
    """Return whether the wall clock of a row was disturbed, and its CPU time was measured."""
    noted = any(note.kind is NoteKind.TIMING for note in row.notes())
    return noted and row.value_of(CPU_SECONDS) is not None


def read_cpu_time(rows: Iterable[ComparisonRow]) -> list[str]:
    """Return a note if the wall clock of any row was disturbed and CPU time can be read instead."""
    return [READ_CPU_TIME] if any(is_disturbed(row) for row in rows) else []
