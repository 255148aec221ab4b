"""Rows whose training time was bound by the loader of their images."""

from bsrbench.reports import units
from bsrbench.reports.compare.comparison_row import ComparisonRow

WAIT = "data_wait_share"
# Above this share, a difference of training times may be the loader's and not the methods'.
MOST_WAITING = 0.05


def is_bound_by_loader(row: ComparisonRow) -> bool:
    """Return whether the steps of a row waited for data too long to compare its training time."""
    waited = row.value(WAIT)
    return waited is not None and waited > MOST_WAITING


def bound_by_loader(row: ComparisonRow) -> list[str]:
    """Return a note, if the training time of a row was bound by the loader of its images."""
    if not is_bound_by_loader(row):
        return []
    waited, most = units.part(row.value(WAIT)), units.part(MOST_WAITING)
    note = (
        f"its steps waited for data in {waited} of the training time, more than {most}: training "
        "seconds were bound by the loader of images, and do not compare methods"
    )
    return [note]
