"""Accuracies of several tasks in every document, and in comparisons of two rows."""

import csv as csv_reader
import json

import pytest

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.documents import contrast_document, csv_table, latex_tables, markdown_report
from bsrbench.reports.page.page_data import page_data
from bsrbench.reports.wording import contrast_table, report_tables

SEVERAL = {"classes": None, "multitask": {"tasks": ["digits", "pack:a_b.npz"], "experts": 16}}
TITLE = "Test accuracy task by task"


@pytest.fixture
def records(make):
    """Return two seeds of full and one of bsr; means of full: 0.85, and 0.45."""
    return [
        make("full", workload=SEVERAL, peak_counted_bytes=2),
        make("full", seed=0, workload=SEVERAL, accuracy_top1=0.6, accuracy_by_task=[0.8, 0.4]),
        make("full", seed=1, workload=SEVERAL, accuracy_top1=0.7, accuracy_by_task=[0.9, 0.5]),
        make("bsr", workload=SEVERAL, peak_counted_bytes=1),
        make("bsr", seed=1, workload=SEVERAL, accuracy_top1=0.75, accuracy_by_task=[0.9, 0.6]),
    ]


@pytest.fixture
def comparison(records, no_details):
    (found,) = compare(records, no_details)
    return found


EXPECTED = [
    ["full", "2 (0 and 1)", "0.850 [0.800, 0.900]", "0.450 [0.400, 0.500]", "0.650 [0.600, 0.700]"],
    ["bsr", "1 (1)", "0.900", "0.600", "0.750"],
]


def test_the_table_has_a_column_a_task_and_their_mean(comparison):
    ((title, titles, rows),) = report_tables.tasks(comparison)

    assert title == TITLE
    assert titles == ["method", "seeds", "digits", "pack:a_b.npz", "mean over tasks"]
    assert rows == EXPECTED


def test_seeds_that_all_rows_have_need_no_column(records, no_details):
    (found,) = compare([record for record in records if record.spec.seed == 1], no_details)
    ((_, titles, rows),) = report_tables.tasks(found)

    assert titles == ["method", "digits", "pack:a_b.npz", "mean over tasks"]
    assert [row[0] for row in rows] == ["full", "bsr"]


def test_there_is_no_such_table_for_one_task(make, no_details):
    (found,) = compare([make("full", accuracy_top1=0.5)], no_details)

    assert report_tables.tasks(found) == []


def test_markdown_and_latex_show_it(comparison, tmp_path):
    markdown_report.write([comparison], [], "Title", tmp_path / "a.md")
    latex_tables.write([comparison], "Title", tmp_path / "a.tex")
    text, tex = ((tmp_path / name).read_text() for name in ("a.md", "a.tex"))

    assert f"### {TITLE}" in text
    assert "| bsr | 1 (1) | 0.900 | 0.600 | 0.750 |" in text
    assert "The 2 tasks take turns in a step" in text
    assert "Blocks 3, 7, 11 have 16 experts instead of one MLP" in text
    assert TITLE in tex
    assert "bsr & 1 (1) & 0.900 & 0.600 & 0.750" in tex


def test_the_page_shows_it(comparison):
    (part,) = page_data([comparison], "Title")["comparisons"]

    assert part["tables"][0]["title"] == TITLE
    assert part["tables"][0]["rows"] == EXPECTED


def test_the_csv_has_one_cell_of_all_tasks(comparison, tmp_path):
    csv_table.write([comparison], tmp_path / "a.csv")
    full, bsr = csv_reader.DictReader((tmp_path / "a.csv").read_text().splitlines())

    assert bsr["accuracy_by_task"] == "digits=0.9; pack:a_b.npz=0.6"
    assert [part.partition("=")[0] for part in full["accuracy_by_task"].split("; ")] == [
        "digits",
        "pack:a_b.npz",
    ]
    assert json.loads(bsr["multitask"])["tasks"] == ["digits", "pack:a_b.npz"]


def test_a_title_names_all_tasks(comparison):
    assert comparison.title().startswith("test_vit at 64 px, digits + pack:a_b.npz, batch 4")


@pytest.fixture
def found(comparison, no_details):
    pair = Pair(comparison.find("bsr"), comparison.find("full"), comparison.title())
    return contrast([pair], no_details)


def test_two_rows_are_compared_task_by_task_over_the_seeds_both_have(found):
    """Of seed 1: 0.9 - 0.9 and 0.6 - 0.5; the 0.8 and 0.4 of full's seed 0 are left out."""
    assert contrast_table.task_rows(found[0]) == [
        ["digits", "0.900", "0.900", "+0.000", "1"],
        ["pack:a_b.npz", "0.600", "0.500", "+0.100", "1"],
    ]


def test_tasks_of_rows_without_a_common_seed_do_not_stand_side_by_side(records, no_details):
    """Full keeps seed 0, bsr has 1."""
    (rows,) = compare([r for r in records if (r.spec.method, r.spec.seed) != ("full", 1)], dict)
    pair = Pair(rows.find("bsr"), rows.find("full"), "")
    (found,) = contrast([pair], no_details)

    assert contrast_table.task_rows(found) == [
        ["digits", "–", "–", "–", "0"],
        ["pack:a_b.npz", "–", "–", "–", "0"],
    ]


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_every_form_of_a_comparison_names_the_tasks(form, found):
    text = contrast_document.FORMATS[form](found)

    assert "digits" in text
    assert "0.6" in text


def test_the_verdict_is_on_the_mean_alone(found):
    judged = {one.metric for one in found[0].findings}

    assert "accuracy_top1" in judged
    assert not any(metric.startswith("accuracy_by_task") for metric in judged)
    assert {str(one.accuracy.verdict.word) for one in found[0].tasks} == {"no verdict"}
