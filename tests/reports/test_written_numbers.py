"""Numbers as tables and files have them, against values worked out by hand."""

import pytest

from bsrbench.reports import units
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.excerpt import excerpt
from bsrbench.reports.documents.export import frame
from bsrbench.reports.wording import notes, report_tables
from bsrbench.reports.wording.columns import COLUMNS
from tests.trial_records import altered

MIB = 2**20


@pytest.mark.parametrize(
    ("unit", "number", "expected"),
    [
        (units.mebibytes, 1.5 * 2**20, "1.5"),
        (units.mebibytes, 2048 * 2**20, "2,048.0"),
        (units.gigaflop, 17.594e9, "17.59"),
        (units.milliseconds, 0.2371, "237"),
        (units.seconds, 12.34, "12.3"),
        (units.millions, 21.5404e6, "21.540"),
        (units.share, 0.66666, "0.667"),
        (units.ratio, 0.444, "0.44×"),
        (units.percent, 0.0123, "+1.23 %"),
        (units.count, 197, "197"),
        *((unit, None, "–") for unit in (units.mebibytes, units.ratio, units.share)),
    ],
)
def test_each_unit_scales_and_rounds(unit, number, expected):
    assert unit(number) == expected


@pytest.mark.parametrize(
    ("metric", "number", "expected"),
    [
        ("peak_counted_bytes", 3 * 2**20, "3.0"),
        ("step_flop", 2e9, "2.00"),
        ("forward_macs", 1e9, "1.00"),
        ("step_seconds", 0.25, "250"),
        ("training_seconds", 0.25, "0.2"),
        ("compile_seconds", 7.0, "7.0"),
        ("trained_parameters", 5_328_010, "5.328"),
        ("accuracy_top1", 0.7, "0.700"),
    ],
)
def test_each_metric_is_printed_in_its_unit(metric, number, expected):
    assert units.of_metric(metric)(number) == expected


def test_a_difference_has_its_sign():
    assert units.signed(units.mebibytes, 2**20) == "+1.0"
    assert units.signed(units.mebibytes, -(2**20)) == "-1.0"


def only(records, no_details):
    (comparison,) = compare(records, no_details)
    return comparison


def test_the_best_of_a_column_is_its_largest_or_smallest(make, no_details):
    """Accuracy is best where it is largest, memory where it is smallest; equals are none."""
    records = [make("full", peak_counted_bytes=2 * MIB, step_flop=5)]
    records += [make("bsr", peak_counted_bytes=MIB, step_flop=5)]
    records += [make("full", accuracy_top1=0.9), make("bsr", accuracy_top1=0.8)]
    columns = [c for c in COLUMNS if c.title in {"accuracy [range]", "counted MiB", "step GFLOP"}]
    comparison = only(records, no_details)

    assert [row.label for row in comparison.rows] == ["full", "bsr"]
    assert [c.title for c in columns] == ["accuracy [range]", "counted MiB", "step GFLOP"]
    assert report_tables.best(comparison, columns) == {(0, 0), (1, 1)}


def curve(seconds, accuracies):
    return {
        "curve_steps": [10, 20],
        "curve_seconds": seconds,
        "curve_accuracies": accuracies,
        "accuracy_top1": 0.5,
    }


def test_accuracy_over_time_is_read_at_the_shortest_training(make, no_details):
    """Full ends at 0.8, so 0.76 is asked for; bsr is done after 4 s, so that is the budget.

    Full reaches it with both seeds at 10 s, and has read 0.4 after 4 s. bsr reaches it with one
    seed of two, after 4 s; after 4 s it has 0.9 and 0.6. head ends higher than full.
    """
    records = [make("full", seed=s, **curve([4.0, 10.0], [0.4, 0.8])) for s in (0, 1)]
    records += [make("bsr", seed=0, **curve([2.0, 4.0], [0.5, 0.9]))]
    records += [make("bsr", seed=1, **curve([2.0, 4.0], [0.5, 0.6]))]
    records += [make("head", seed=s, **curve([3.0, 5.0], [0.5, 0.95])) for s in (0, 1)]
    ((_, titles, rows),) = report_tables.curves(only(records, no_details))

    assert titles[4:] == ["s to 0.760", "accuracy in 4.0 s"]
    assert rows == [
        ["full", "2", "10.0", "0.800", "10.0", "0.400"],
        ["bsr", "2", "4.0", "0.750", "4.0 (1 never)", "0.750"],
        ["head", "2", "5.0", "0.950", "5.0", "0.500"],
    ]


def test_a_note_of_one_row_is_not_said_of_all(make, no_details):
    records = [make("full", peak_counted_bytes=MIB), make("bsr", peak_counted_bytes=MIB)]
    both, one = ["the clock is old"], ["the device is slowed down"]
    noted = [
        altered(record, notes=notes)
        for record, notes in zip(records, (both + one, both), strict=True)
    ]

    assert notes.doubts(only(noted, no_details)) == [
        "all rows: the clock is old",
        "full: the device is slowed down",
    ]


def test_an_exported_record_says_how_it_ended(make):
    lines = frame([make("full", status="out of memory"), make("bsr", peak_counted_bytes=7)])

    assert list(lines["status"]) == ["out of memory", "completed"]
    assert list(lines["reason"]) == ["why", ""]
    assert list(lines["method"]) == ["full", "bsr"]
    assert lines["peak_counted_bytes"][1] == 7


def test_an_excerpt_keeps_reference_and_baseline(make, no_details):
    """Both come after eight others in the order of the records."""
    others = [make(f"other{number}", peak_counted_bytes=MIB) for number in range(8)]
    records = [*others, make("bsr", peak_counted_bytes=MIB), make("full", peak_counted_bytes=MIB)]
    shown = excerpt(only(records, no_details), 3)

    assert {row.label for row in shown.rows} == {"full", "bsr", "other0"}


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**19, "1.5 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**50, "3072.0 TiB"),
    ],
)
def test_a_size_on_a_disk_has_the_unit_in_which_it_is_easiest_to_read(size_bytes, text):
    assert units.storage(size_bytes) == text
