"""Reports of strange names, of no records, and of records with nothing measured."""

import csv
import re

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import csv_table as csv_report
from bsrbench.reports.documents import write_report
from bsrbench.reports.wording import markdown_syntax
from tests.reports.one_comparison import no_details

MIB = 2**20


STRANGE = "<script>alert(1)</script>|&%\\*_` 名前"


def test_strange_names_are_escaped_everywhere(make_record, tmp_path):
    record = make_record(STRANGE, peak_counted_bytes=MIB, step_seconds=[1.0], step_flop=1)
    trained = make_record(STRANGE, accuracy_top1=0.5)
    write_report.write(
        [record, trained, make_record(peak_counted_bytes=MIB)], tmp_path, STRANGE, no_details
    )
    page, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    with (tmp_path / "comparison.csv").open(newline="") as file:
        named = {line["method"]: line["row"] for line in csv.DictReader(file)}
    rows = [line for line in text.splitlines() if line.startswith("|")]

    assert "<script>" not in page
    assert "<script>" not in text
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:4]}) == 1
    assert "<script>" not in (tmp_path / "accuracy-memory.svg").read_text()
    assert named[STRANGE].startswith('"<script>')  # quoted, for it would not stand on one line
    assert RowLabel.parse(named[STRANGE]).method == STRANGE


def test_markdown_escapes_to_one_line():
    assert markdown_syntax.escape("a|b\n*c*") == r"a\|b \*c\*"


def test_one_record_with_nothing_measured_makes_a_report(make_record, tmp_path):
    write_report.write([make_record("bsr", status="crashed")], tmp_path, "t", no_details)

    assert (tmp_path / "report.html").exists()


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"expected records/\*\.json"):
        write_report.write([], tmp_path, "t", no_details)


def test_no_cell_of_the_csv_is_a_formula_or_breaks_a_line(make_trial, tmp_path):
    rows = [make_trial(name, final_loss=0.5) for name in ("=1+1", "@a", "plain")]
    rows.append(make_trial("bad", status="crashed", reason="one\rtwo\nthree\x1b"))
    csv_report.write(compare(rows, dict), tmp_path / "c")
    with (tmp_path / "c").open(newline="") as file:
        found = [(line["method"], line["row"], line["outcome"]) for line in csv.DictReader(file)]

    assert found == [
        ("'=1+1", "'=1+1", "completed"),
        ("'@a", "'@a", "completed"),
        ("plain", "plain", "completed"),
        ("bad", "bad", "seed 0: crashed (one\\x0dtwo\nthree\\x1b)"),
    ]
