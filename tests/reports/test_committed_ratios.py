"""The ratios in committed tables are those of their records, digit by digit."""

import csv
from pathlib import Path

import pytest

from bsrbench.harness.records.store import gather
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import csv_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
TABLES = sorted(RESULTS.glob("*/comparison.csv"))


def ratios(table):
    with table.open(newline="", encoding="utf-8") as file:
        return [
            {name: text for name, text in line.items() if "_over_" in name}
            for line in csv.DictReader(file)
        ]


def test_there_are_committed_tables():
    assert len(TABLES) > 9


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.parent.name)
def test_the_ratios_of_a_committed_table_are_those_of_its_records(table, tmp_path):
    """A table may be older than a column."""
    pool = gather([table.parent])
    csv_table.write(compare(pool.records, pool.detail), tmp_path / table.name)
    committed, made = ratios(table), ratios(tmp_path / table.name)

    assert [
        {name: text for name, text in new.items() if name in old}
        for old, new in zip(committed, made, strict=True)
    ] == committed
