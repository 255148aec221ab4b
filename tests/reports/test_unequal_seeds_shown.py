"""Tables, figures and pages of rows that were tested with different seeds."""

import csv as csv_reader
import io

import pytest
from rich.console import Console

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import (
    csv_table,
    latex_tables,
    markdown_report,
    terminal_table,
)
from bsrbench.reports.figures import all_figures
from bsrbench.reports.page.page_data import page_data
from bsrbench.reports.wording import notes, report_tables
from tests.reports.seed_records import FULL, HEAD, MIB, failed, head_and_full, trained


@pytest.fixture
def records(make):
    return head_and_full(make)


@pytest.fixture
def comparison(records, no_details):
    (found,) = compare(records, no_details)
    return found


def test_no_table_calls_an_accuracy_best_over_other_seeds(comparison):
    for columns in (report_tables.shown(comparison), report_tables.paper_columns(comparison)):
        marked = {columns[place].metric for _, place in report_tables.best(comparison, columns)}

        assert "accuracy_top1" not in marked
        assert "peak_counted_bytes" in marked


def test_the_same_seeds_have_a_best(make, no_details):
    (comparison,) = compare(
        [*trained(make, "head", HEAD[:2]), *trained(make, "full", FULL)], no_details
    )
    columns = report_tables.shown(comparison)
    place = [column.metric for column in columns].index("accuracy_top1")
    row = [row.label for row in comparison.rows].index("full")

    assert report_tables.best(comparison, columns) == {(row, place)}


def test_rows_that_were_not_tested_take_no_best_away(make, no_details):
    records = [*trained(make, "head", FULL), *trained(make, "full", HEAD[:2])]
    records += [make("bsr", peak_counted_bytes=MIB), *failed(make, "lora", 0, 1)]
    (comparison,) = compare(records, no_details)

    assert comparison.same_seeds
    assert report_tables.best(comparison, report_tables.shown(comparison))
    assert "lora: no seed" in notes.summary(comparison)[0]


def test_documents_say_which_row_had_which_seeds(comparison, tmp_path):
    markdown_report.write([comparison], [], "t", tmp_path / "t.md")
    latex_tables.write([comparison], "t", tmp_path / "t.tex")
    csv_table.write([comparison], tmp_path / "t.csv")
    text, tex = (tmp_path / "t.md").read_text(), (tmp_path / "t.tex").read_text()
    with (tmp_path / "t.csv").open() as file:
        lines = {line["row"]: line for line in csv_reader.DictReader(file)}

    assert "for 40 steps with its own seeds (head: seeds 0 to 5; full: seeds 0 and 1)" in text
    assert "with 6 seeds" not in text
    assert r"| head | 0.767 \[0.500, 0.900\] | 6 (0 to 5) |" in text
    assert "- tested with seeds 0 and 1: full" in text
    assert "head & 0.767 [0.500, 0.900] & 6 (0 to 5) &" in tex
    assert r"\textbf{0.767" not in tex
    assert "no accuracy is marked as the best" in tex
    assert lines["head"]["tested_seeds"] == "0 1 2 3 4 5"
    assert (lines["full"]["seeds"], lines["full"]["tested_seeds"]) == ("2", "0 1")


def test_the_sentence_of_a_report_compares_the_seeds_that_all_rows_have(comparison):
    """Over seeds 0 and 1 head has 0.5 and full 0.555."""
    _, finding, cannot = notes.summary(comparison)

    assert finding == (
        "Test accuracy, mean over the 2 seeds that all rows have (0 and 1): full 0.555, highest "
        "full 0.555."
    )
    assert "rows were tested with different seeds, so no accuracy is marked as the best" in cannot
    assert "no two rows have more than 2 seeds in common" in cannot


def test_rows_without_a_common_seed_are_not_compared_in_words(make, no_details):
    (comparison,) = compare(
        [*trained(make, "head", {0: 0.9}), *trained(make, "full", {1: 0.8})], no_details
    )

    assert notes.summary(comparison)[1] == notes.NOT_SHARED


def test_an_accuracy_of_0_is_an_accuracy(make, no_details):
    (comparison,) = compare(
        [*trained(make, "head", [0.0]), *trained(make, "full", [0.0])], no_details
    )

    assert "full 0.000" in notes.summary(comparison)[1]


@pytest.mark.parametrize("width", [80, 300])
def test_the_terminal_shows_seeds_and_no_best(comparison, width):
    console = Console(width=width, record=True, file=io.StringIO())
    terminal_table.show([comparison], console)
    printed = console.export_text()

    assert "*0.767" not in printed
    assert "tested with seeds 0 to 5: head" in printed
    assert "seeds differ from row to row, so no accuracy is marked as the best" in printed
    assert ("6 (0 to 5)" in printed) == (width == 300)


def test_there_is_no_front_among_different_seeds(comparison):
    assert comparison.pareto_front() == []


def test_figures_name_the_seeds_and_draw_no_front(records, make, no_details, tmp_path):
    curve = {"curve_steps": [10, 20], "curve_seconds": [1.0, 2.0], "curve_accuracies": [0.1, 0.2]}
    more = [*records[:2], *trained(make, "head", HEAD, **curve)]
    (comparison,) = compare([*more, *trained(make, "full", FULL, **curve)], no_details)
    drawn = {
        figure.name: figure.caption for figure in all_figures.write_all([comparison], tmp_path)
    }
    points, lines = (
        (tmp_path / f"{name}.svg").read_text() for name in ("accuracy-memory", "curve-steps")
    )

    assert "2 to 6 seeds per row (so no Pareto front)" in drawn["accuracy-memory"]
    for text in (points, lines):
        assert "head (seeds 0 to 5)" in text
        assert "full (seeds 0 and 1)" in text
    assert "<!-- Pareto front -->" not in points


def test_curves_name_the_seeds_behind_them(records, make, no_details):
    curve = {"curve_seconds": [1.0, 2.0], "curve_accuracies": [0.1, 0.2]}
    (comparison,) = compare(
        [*trained(make, "head", HEAD, **curve), *trained(make, "full", FULL, **curve)], no_details
    )
    ((_, titles, rows),) = report_tables.curves(comparison)

    assert titles[:2] == ["method", "seeds"]
    assert {row[0]: row[1] for row in rows} == {"full": "2 (0 and 1)", "head": "6 (0 to 5)"}


def test_the_page_shows_the_seeds_and_may_mark_none_best(comparison):
    data = page_data([comparison], "t")
    (part,) = data["comparisons"]
    texts = {row["label"]: row["texts"]["seeds"] for row in part["rows"]}

    assert texts == {"full": ["2 (0 and 1)", 2], "head": ["6 (0 to 5)", 6]}
    assert dict(part["columns"])["seeds"] is True
    by_seed = {name for name, column in data["columns"].items() if column.get("bySeed")}
    assert by_seed == {
        *("accuracy_top1", "busiest_experts_share", "final_loss"),
        *("training_seconds", "data_wait_share", "skipped_steps"),
    }


def test_the_page_hides_the_seeds_that_all_rows_have(make, no_details):
    records = [*trained(make, "head", FULL), *trained(make, "full", FULL)]
    records += [make("bsr", peak_counted_bytes=MIB)]
    (part,) = page_data(compare(records, no_details), "t")["comparisons"]

    assert dict(part["columns"])["seeds"] is False
