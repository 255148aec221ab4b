"""State which rows were measured by code of which a record says too little to be compared."""

from collections.abc import Sequence

from bsrbench.harness.records.record_key import read_key
from bsrbench.reports.compare.comparison_row import ComparisonRow

SHOWN = 7  # digits of a commit
MOST_COMMITS = 3


def made_by_old_code(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return a line, if records are stale whatever the code is now.

    The keys of schema 5 and older have no hash of the measuring code. So ``bsrbench results check``
    calls these records stale, and ``bsrbench run`` measures them again.
    """
    old = [row for row in rows if any(_has_no_hash(record.key) for record in row.records)]
    if not old:
        return []
    made_at = {record.environment.commit for row in old for record in row.records}
    commits = sorted(commit[:SHOWN] for commit in made_at if commit)
    at = f" (at commit {', '.join(commits)})" if 0 < len(commits) <= MOST_COMMITS else ""
    which = f"{len(old)} of {len(rows)} rows"
    return [f"{which} are stale: an older version of bsrbench{at} made their records"]


def _has_no_hash(key: str) -> bool:
    parsed = read_key(key)
    return parsed is not None and parsed.measuring is None
