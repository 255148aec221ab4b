"""Rows that differ in the optimizer are compared with the same row with AdamW."""

import csv
import io

import pytest
from rich.console import Console

from bsrbench.reports.compare import optimizer_rows
from bsrbench.reports.compare.anchors import compared_with, reference_workload
from bsrbench.reports.documents import terminal_table, write_report
from bsrbench.reports.figures import memory_figures
from bsrbench.reports.figures.palette import colour_of, mark_of
from bsrbench.reports.figures.row_looks import colour_of_row, mark_of_row
from bsrbench.reports.page.page_data import page_data
from bsrbench.reports.wording import optimizer_table
from tests.reports.one_comparison import only
from tests.trial_records import no_details

MIB = 2**20
# Ten MiB of weights and of gradients; AdamW has two numbers per weight, and Lion has one.
STATE = {"sgd": 10 * MIB, "adamw": 20 * MIB, "lion": 10 * MIB, "adamw8": 5 * MIB}


@pytest.fixture
def make_row(make_trial):
    """Return a maker of a profile with an optimizer."""

    def make(optimizer="sgd", method="full", seconds=1.0, **values):
        parts = {f"{part}_at_peak_bytes": 10 * MIB for part in ("weights", "gradients")}
        parts |= {f"{part}_at_peak_bytes": 0 for part in ("saved_activations", "temporaries")}
        parts["optimizer_at_peak_bytes"] = STATE[optimizer]
        peak = 20 * MIB + STATE[optimizer] + MIB  # one MiB of inputs
        workload = {"optimizer": optimizer} | values.pop("workload", {})
        values = parts | {"peak_counted_bytes": peak, "step_seconds": [seconds] * 9} | values
        return make_trial(method, workload=workload, **values)

    return make


@pytest.fixture
def memory(make_row):
    """Return records as of the suite memory: the workload has sgd, and some rows have another."""
    return [
        make_row(),
        make_row(method="bsr", seconds=0.5),
        make_row("adamw", seconds=2.0),
        make_row("lion", seconds=3.0),
    ]


def test_rows_of_other_optimizers_are_compared_with_the_row_that_has_adamw(memory):
    """Lion: (10 + 10 + 10 + 1) of (10 + 10 + 20 + 1) MiB is 0.756, and 3 s of 2 s is 1.5."""
    ((_, titles, rows),) = optimizer_table.sections(only(memory))
    cells = {name: dict(zip(titles[1:], row, strict=True)) for name, *row in rows}

    assert list(cells) == ["full (sgd)", "full (adamw)", "full (lion)"]
    assert cells["full (lion)"]["optimizer MiB"] == "10.0"
    assert cells["full (lion)"]["other MiB"] == "1.0"
    assert cells["full (lion)"]["× adamw"] == "0.76×"
    assert cells["full (lion)"]["× adamw [95 %]"] == "1.50×"
    assert cells["full (sgd)"]["× adamw [95 %]"] == "0.50×"
    assert cells["full (adamw)"]["× adamw"] == "1.00×"


def test_the_main_table_keeps_its_reference(memory):
    comparison = only(memory)

    assert comparison.find("full").spec.workload.optimizer == "sgd"
    assert comparison.ratio(comparison.rows[-1], "step_seconds") == pytest.approx(3.0)


def test_each_row_has_the_reference_with_its_own_method_options_and_axes(make_row):
    half = {"precision": "bf16"}
    rows = [
        make_row(method=method, optimizer=optimizer, workload=axes)
        for method in ("full", "bsr")
        for axes in ({}, half)
        for optimizer in ("adamw", "adamw8")
    ]
    pairs = optimizer_rows.with_references(only(rows))

    assert len(pairs) == 8
    for row, reference in pairs:
        assert reference.spec.workload.optimizer == "adamw"
        assert reference.spec.workload.precision == row.spec.workload.precision
        assert reference.spec.method == row.spec.method


@pytest.mark.parametrize("optimizers", [["sgd", "lion"], ["adamw"], ["sgd"]])
def test_without_several_optimizers_and_adamw_there_is_no_table(make_row, optimizers):
    comparison = only([make_row(optimizer) for optimizer in optimizers])

    assert optimizer_rows.with_references(comparison) == []
    assert optimizer_table.sections(comparison) == []
    assert optimizer_table.short_section(comparison) is None


def test_a_row_of_another_machine_is_no_reference(make_row):
    rows = [make_row("adamw", machine="n"), make_row("lion"), make_row("sgd")]

    assert optimizer_rows.with_references(only(rows)) == []


def test_every_document_has_the_comparison(memory, tmp_path):
    """The peak of Lion is 31 MiB, of AdamW 41 MiB."""
    write_report.write(memory, tmp_path, "t", no_details)
    with (tmp_path / "comparison.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    console = Console(width=80, record=True, file=io.StringIO())
    terminal_table.show([only(memory)], console)
    printed = console.export_text()
    table = printed[printed.index(optimizer_table.TITLE) :]

    assert float(lines["full (lion)"]["peak_counted_bytes_over_adamw"]) == pytest.approx(31 / 41)
    assert float(lines["full (lion)"]["step_seconds_over_adamw"]) == pytest.approx(1.5)
    assert lines["bsr"]["peak_counted_bytes_over_adamw"] == ""
    assert f"### {optimizer_table.TITLE}" in (tmp_path / "report.md").read_text()
    assert optimizer_table.TITLE in (tmp_path / "report.tex").read_text()
    assert "full (lion) 10.0 31.0 0.76× 3,000 1.50×" in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 80
    (page,) = page_data([only(memory)], "t")["comparisons"]
    assert optimizer_table.TITLE in [table["title"] for table in page["tables"]]
    assert page["rows"][3]["texts"]["optimizer"] == ["lion", "lion"]


@pytest.mark.parametrize("turned", [False, True])
def test_the_reference_has_the_optimizer_of_most_rows_in_any_order(make_row, turned):
    """Both full rows have no axes; two rows have sgd and one has AdamW."""
    rows = [make_row("adamw"), make_row(), make_row(method="bsr")]
    specs = [record.spec for record in (rows[::-1] if turned else rows)]
    anchors = compared_with(specs)

    assert reference_workload(specs).optimizer == "sgd"
    assert [(spec.method, spec.workload.optimizer) for spec in anchors] == [
        ("full", "sgd"),
        ("bsr", "sgd"),
    ]


def test_rows_of_one_method_look_different_if_their_optimizers_differ(make_row):
    momentum = {"workload": {"momentum": 0.0}}
    rows = [make_row(name) for name in STATE] + [make_row(**momentum)]
    rows += [make_row(name, method="bsr") for name in STATE]
    comparison = only(rows)
    looks = {row.label: (colour_of_row(row), mark_of_row(row)) for row in comparison.rows}

    assert len(rows) == len(looks) == len(set(looks.values()))
    assert looks["full"] == (colour_of("full"), mark_of("full"))
    assert looks["bsr (lion)"] == (looks["full (lion)"][0], mark_of("bsr"))


def test_only_rows_of_several_optimizers_are_in_their_figure(memory):
    """Without other rows, the figure would be the same as that of all rows."""
    (axes,) = memory_figures.parts_by_optimizer(only(memory)).axes
    labels = [text.get_text() for text in axes.get_yticklabels()]

    assert labels == ["full (sgd)", "full (adamw)", "full (lion)"]
    assert memory_figures.parts_by_optimizer(only([memory[0], *memory[2:]])) is None
