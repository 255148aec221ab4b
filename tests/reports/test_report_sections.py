"""What sections, notes and doubts of a report say."""

from bsrbench.harness.records.sidecar import sidecar_from
from bsrbench.harness.spec.recipe import LearningRateTry
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import write_report
from bsrbench.reports.wording import notes, report_tables
from tests.reports.one_comparison import only
from tests.trial_records import altered

MIB = 2**20


def test_the_first_paragraphs_say_what_came_out_and_what_cannot_be_concluded(make_trial):
    rows = [
        make_trial("full", accuracy_top1=0.75),
        make_trial("mine", accuracy_top1=0.875),
        make_trial("mine", step_seconds=[1.0, 1.5, 2.0] * 3),
        make_trial("lora", status="out of memory"),
    ]
    setting, finding, cannot = notes.summary(only(rows))

    assert setting.endswith("Times were measured in 3 visits per row, each in its own process.")
    assert finding == "Test accuracy, mean over seeds: full 0.750, highest mine 0.875."
    assert "1 of 3 rows did not complete, so numbers are missing" in cannot
    assert "1 of 3 rows have noisy times" in cannot


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
    sidecar = sidecar_from({"counted": {"timeline": TIMELINE}})
    write_report.write(records, tmp_path, "t", lambda _: sidecar)
    drawn = {name: (tmp_path / f"memory-{name}.svg").read_text() for name in ("parts", "timeline")}

    assert "saved activations" in drawn["parts"]
    assert "40 MiB in blocks.0" in drawn["timeline"]


def test_equal_tokens_of_neighbouring_blocks_are_written_once(make_record):
    comparison = only([make_record("bsr", tokens_after_block=[197, 197, 100, 52, 52])])
    sections = {title: rows for title, _, rows in report_tables.sections(comparison)}

    assert sections["Work of a step"][0][-1] == "197 x2, 100 x1, 52 x2"


def test_what_nothing_explains_stands_beside_the_meters(make_record):
    record = make_record("bsr", peak_allocated_bytes=MIB)
    sidecar = sidecar_from({"allocated": {"unexplained_bytes": 96}})
    (comparison,) = compare([record], lambda _: sidecar)
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


def test_cpu_time_has_a_column_if_a_row_has_it(make_record):
    """Columns that need no special device stay, also where no row has a value."""
    without = only([make_record("full", step_flop=1)])
    having = only([make_record("full", step_flop=1, step_cpu_seconds=[0.1])])

    def titles(comparison):
        return " ".join(report_tables.cells(comparison)[0])

    assert "CPU ms" in titles(having)
    assert "CPU ms" not in titles(without)
    assert "accuracy" in titles(without)


def test_a_note_of_all_rows_is_said_once(make_record):
    records = [make_record(name, step_flop=1) for name in ("full", "bsr")]
    said = (["predicted"], ["predicted", "disturbed"])
    records = [altered(record, notes=texts) for record, texts in zip(records, said, strict=True)]

    assert notes.doubts(only(records)) == ["all rows: predicted", "bsr: disturbed"]
    assert notes.doubts(only(records[:1])) == ["full: predicted"]


def test_a_rate_at_the_end_of_those_tried_is_a_doubt(make_trial):
    """So is one that nobody tuned, if others' were."""

    def trial(method, own, *rates):
        made = make_trial(method, accuracy_top1=0.5)
        tries = tuple(LearningRateTry(learning_rate=rate) for rate in rates)
        training = made.spec.training.model_copy(update={"learning_rate": own, "tries": tries})
        return altered(made, spec=made.spec.model_copy(update={"training": training}))

    tried = [trial("bsr", 0.3, 0.1, 0.2, 0.3), trial("full", 0.2, 0.1, 0.2, 0.3)]
    (found,) = compare([*tried, trial("mine", 0.2)], dict)
    (untuned,) = compare([trial("bsr", 0.2), trial("full", 0.2)], dict)

    assert notes.doubts(found) == [
        "bsr: its learning rate 0.3 is the largest tried; a larger one may do better",
        "mine: its learning rate was not tuned",
    ]
    assert not notes.doubts(untuned)
