"""What is best among rows of several round groups is so by the ratios of their turns."""

from bsrbench.reports.wording import report_tables
from bsrbench.reports.wording.columns import COLUMNS, PAPER_COLUMNS
from bsrbench.reports.wording.terminal_columns import widest_first
from tests.reports.added_row import AGAIN, MINE
from tests.reports.one_comparison import only
from tests.trial_records import altered


def marked(comparison, columns):
    """Return the labels of the best by column."""
    found = {}
    for row, column in report_tables.best(comparison, columns):
        found.setdefault(columns[column].title, set()).add(comparison.rows[row].label)
    return found


def test_the_best_time_is_that_of_the_smallest_ratio_to_the_reference(stored, add):
    """2.4 s of a slow day are more than bsr's 2 s, but 0.4 of full's time and not 0.5."""
    two = stored[:2]
    comparison = only([*two, add("mine", MINE, AGAIN, two)])
    found = marked(comparison, COLUMNS)

    assert comparison.find("mine").value("step_seconds") > comparison.find("bsr").value(
        "step_seconds"
    )
    assert found["step ms [quartiles]"] == {"mine"}
    assert found["× full [95 %]"] == {"mine"}


def test_the_rate_of_images_is_ranked_as_the_time_is(stored, add):
    """Of 4 images a step: 1, 2 and 1.67 a second; the last is the best in its own group."""
    two = [
        altered(record, measurements=record.measurements | {"images_per_second": rate})
        for record, rate in zip(stored[:2], (1.0, 2.0), strict=True)
    ]
    mine = add("mine", MINE, AGAIN, two)
    mine.measurements["images_per_second"] = 4 / 2.4
    found = marked(only([*two, mine]), COLUMNS)

    assert found["img/s"] == {"mine"}


def test_what_has_no_ratio_is_not_the_best(stored, make):
    """0.1 s in a group of its own says nothing; of the others head is the best."""
    comparison = only([*stored, make("mine", step_seconds=[0.1] * 3, group="alone")])
    for columns in (COLUMNS, PAPER_COLUMNS, *widest_first(comparison)):
        found = marked(comparison, columns)

        assert set(map(frozenset, found.values())) == {frozenset({"head"})}


def test_without_a_reference_no_time_of_two_groups_is_the_best(stored, make):
    comparison = only([*stored[1:], make("mine", step_seconds=[0.1] * 3, group="alone")])

    assert marked(comparison, COLUMNS) == {}
    assert marked(only(stored[1:]), COLUMNS) == {"step ms [quartiles]": {"head"}}


def test_the_front_of_accuracy_and_time_is_that_of_ratios(stored, add, make):
    """Mine needs 0.4 of full's time and reaches more than bsr, which needs 0.5."""
    two = stored[:2]
    trained = [
        make(name, accuracy_top1=reached)
        for name, reached in (("full", 0.75), ("bsr", 0.5), ("mine", 0.625))
    ]
    comparison = only([*two, add("mine", MINE, AGAIN, two), *trained])

    assert [row.label for row in comparison.pareto_front("step_seconds")] == ["mine", "full"]
