"""The one comparison of records without details."""

from bsrbench.reports.compare.comparison import compare
from tests.trial_records import no_details


def only(records):
    (comparison,) = compare(records, no_details)
    return comparison
