"""The one comparison of records without details."""

from bsrbench.reports.compare.comparison import compare


def no_details(_):
    return {}


def only(records):
    (comparison,) = compare(records, no_details)
    return comparison
