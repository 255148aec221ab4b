"""Rows that are not trained, because another row's training is the same by construction."""

from bsrbench.reports.compare.comparison_row import ComparisonRow


def trains_as(row: ComparisonRow) -> str | None:
    """Return the label of the row whose training is the same; ``None`` for a trained row."""
    record = None if row.trained() else row.profiled()
    return record.spec.profile.trains_as if record and record.spec.profile else None
