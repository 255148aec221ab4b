"""Training times that were bound by the loader of images are said not to compare methods."""

import pytest

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.wording import notes
from tests.reports.seed_records import trained

BOUND = (
    "its steps waited for data in 8 % of the training time, more than 5 %: training seconds were "
    "bound by the loader of images, and do not compare methods"
)


@pytest.fixture
def comparison(make, no_details):
    """Return full, whose two seeds waited 4 % and 12 %; head, 5 %; and bias, an older record."""
    records = [
        *trained(make, "full", {0: 0.5}, data_wait_share=0.04, training_seconds=9.0),
        *trained(make, "full", {1: 0.5}, data_wait_share=0.12, training_seconds=9.0),
        *trained(make, "head", [0.5, 0.5], data_wait_share=0.05, training_seconds=9.0),
        *trained(make, "bias", [0.5, 0.5], training_seconds=9.0),
    ]
    (found,) = compare(records, no_details)
    return found


def test_a_report_names_the_rows_whose_mean_share_is_above_five_percent(comparison):
    assert [line for line in notes.doubts(comparison) if "waited" in line] == [f"full: {BOUND}"]


def test_a_summary_says_that_their_training_seconds_do_not_compare_methods(comparison):
    (line,) = [line for line in notes.limits(comparison) if "waited" in line]

    assert line == (
        "1 of 3 rows waited for data in more than 5 % of their training time: their training "
        "seconds were bound by the loader of images, and do not compare methods"
    )


def test_compare_says_it_of_either_row(comparison, no_details):
    full, head = (comparison.find(name) for name in ("full", "head"))
    remarks = [
        line
        for new, baseline in ((full, head), (head, full))
        for line in contrast([Pair(new, baseline, "")], no_details)[0].remarks
        if "waited" in line
    ]

    assert remarks == [f"full: {BOUND}"] * 2
