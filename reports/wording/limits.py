"""The conclusions that the rows of a comparison do not allow."""

from bsrbench.reports import units
from bsrbench.reports.compare import seed_pairing
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import NOT_TUNED
from bsrbench.reports.compare.data_wait import MOST_WAITING, is_bound_by_loader
from bsrbench.reports.compare.statistics import can_be_significant
from bsrbench.reports.wording.cross_checks import unchecked
from bsrbench.reports.wording.old_records import made_by_old_code

DIFFERENT_SEEDS = (
    "rows were tested with different seeds, so no accuracy is marked as the best and no Pareto "
    "front is given ('bsrbench compare' compares two rows over the seeds that both have)"
)
BOUND_BY_LOADER = (
    f"waited for data in more than {units.part(MOST_WAITING)} of their training time: their "
    "training seconds were bound by the loader of images, and do not compare methods"
)


def limits(comparison: Comparison) -> list[str]:
    """Return the conclusions that the rows do not allow."""
    lines = made_by_old_code(comparison.rows)
    lines += [*_limits_of_seeds(comparison), *_limits_of_rows(comparison)]
    lines += unchecked(comparison.rows)
    if len(comparison.machines()) > 1:
        lines.append(
            "rows come from several machines: only ratios within one machine can be compared"
        )
    return lines


def _limits_of_seeds(comparison: Comparison) -> list[str]:
    """Return the limits of accuracies, if rows have too few seeds or different seeds."""
    if not comparison.seeds():
        return []
    most = seed_pairing.most_shared(comparison.rows)
    few = "no difference in accuracy can be significant; ranges are shown instead of intervals"
    if comparison.same_seeds:
        return [] if can_be_significant(most) else [f"with {units.seeds(most)} {few}"]
    lines = [DIFFERENT_SEEDS]
    if not can_be_significant(most):
        lines.append(f"no two rows have more than {units.seeds(most)} in common, so {few}")
    return lines


def _limits_of_rows(comparison: Comparison) -> list[str]:
    """Return the limits of some rows, with the number of rows, because there may be thousands."""
    total = len(comparison.rows)
    failed = sum(bool(row.failures()) for row in comparison.rows)
    times = [row.step_seconds() for row in comparison.rows]
    noisy = sum(time is not None and time.noisy() for time in times)
    bound = sum(map(is_bound_by_loader, comparison.rows))
    doubts = [set(row.doubts_about_its_rate()) - {NOT_TUNED} for row in comparison.rows]
    counts = (
        (failed, "did not complete, so numbers are missing"),
        (
            noisy,
            "have noisy times (quartiles more than 10 % apart): trust ratios within rounds",
        ),
        (
            bound,
            BOUND_BY_LOADER,
        ),
        (sum(map(bool, doubts)), "might do better with a learning rate outside the range tried"),
    )
    return [f"{count} of {total} rows {what}" for count, what in counts if count]
