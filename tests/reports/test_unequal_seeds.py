"""Rows that were tested with different seeds: what is compared, what is not, and what is said.

The first case is ``head`` with seeds 0 to 5 and ``full`` with 0 and 1: over all of its own head
has 4.6 / 6 = 0.767 and full 0.555, over the two that both have head has 0.5, 0.5 / 0.555 = 0.9009.
"""

import csv as csv_reader
import io
import json

import pytest
from rich.console import Console

from bsrbench.harness.records.store import Gathered, Store
from bsrbench.reports.compare import gate, seed_pairing
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import contrast
from bsrbench.reports.compare.matching import match
from bsrbench.reports.compare.statistics import mean_and_range
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.documents import (
    contrast_document,
    csv_table,
    latex_tables,
    markdown_report,
    report_tables,
    terminal_table,
)
from bsrbench.reports.figures import all_figures
from bsrbench.reports.page.page_data import page_data
from bsrbench.reports.wording import notes

MIB = 2**20
HEAD, FULL = [0.50, 0.50, 0.90, 0.90, 0.90, 0.90], [0.55, 0.56]


def trained(make, method, accuracies, **more):
    """Return a training for each of some seeds, or for seeds from 0 on."""
    of = accuracies if isinstance(accuracies, dict) else dict(enumerate(accuracies))
    return [make(method, seed=seed, accuracy_top1=a, **more) for seed, a in of.items()]


def failed(make, method, *lost):
    """Return trainings that diverged, made as others are and then robbed of their accuracy."""
    ended = [make(method, seed=seed, status="diverged", accuracy_top1=0.5) for seed in lost]
    for record in ended:
        del record.measurements["accuracy_top1"]
        record.missing["accuracy_top1"] = "diverged"
    return ended


@pytest.fixture
def records(make):
    profiles = [
        make(name, peak_counted_bytes=size * MIB) for name, size in (("head", 1), ("full", 2))
    ]
    return [*profiles, *trained(make, "head", HEAD), *trained(make, "full", FULL)]


@pytest.fixture
def comparison(records, no_details):
    (found,) = compare(records, no_details)
    return found


def put(records, no_details, new="head", baseline="full"):
    matched = match(new, baseline, Gathered(list(records), [], ()))
    (found,) = contrast(matched.pairs, no_details)
    return found


@pytest.fixture
def found(records, no_details):
    return put(records, no_details)


def test_all_numbers_of_two_rows_are_over_the_seeds_both_have(found):
    accuracy = found.find("accuracy_top1")

    assert (accuracy.new, accuracy.baseline) == (0.5, pytest.approx(0.555))
    assert accuracy.difference == pytest.approx(-0.055)
    assert accuracy.ratio == pytest.approx(0.50 / 0.555)
    assert accuracy.pairs == 2


def test_the_words_say_who_had_which(found):
    assert (
        "accuracies are compared over the 2 seeds that both have (0 and 1): head was tested with "
        "seeds 0 to 5 (mean 0.767); full was tested with seeds 0 and 1 (mean 0.555)"
    ) in found.remarks


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("ratio(accuracy_top1) < 0.98", True),
        ("ratio(accuracy_top1) > 1", False),
        ("difference(accuracy_top1) < -0.05", True),
        ("value(accuracy_top1) < 0.51", True),
        ("value(accuracy_top1) > 0.7", False),
        ("baseline(accuracy_top1) > 0.56", False),
    ],
)
def test_a_gate_judges_the_same_seeds(found, condition, fails):
    assert bool(gate.failures([found], [gate.parse_judged(condition)])) == fails


def test_a_gate_says_over_which_seeds_its_number_is(found):
    (line,) = gate.failures([found], [gate.parse_judged("ratio(accuracy_top1) < 0.98")])

    assert line.endswith("for it is 0.900901 over the 2 seeds that both have (0 and 1)")


@pytest.mark.parametrize("form", ["markdown", "latex", "json", "csv"])
def test_every_format_of_a_comparison_has_the_paired_numbers_and_who_had_which(found, form):
    text = contrast_document.FORMATS[form]([found])
    has = {
        "markdown": ("| accuracy top1 | 0.500 | 0.555 | -0.055 | 0.90× |", "seeds 0 to 5 (mean"),
        "latex": ("accuracy top1 & 0.500 & 0.555", "over the 2 seeds that both have (0 and 1)"),
        "json": ('"new": 0.5,', "head was tested with seeds 0 to 5"),
        "csv": ("accuracy_top1,0.5,0.55", ",0 1 2 3 4 5,0 1,0 1\n"),
    }[form]

    assert all(part in text for part in has)
    assert "1.38" not in text


def test_the_json_of_a_comparison_lists_the_seeds(found):
    (said,) = json.loads(contrast_document.to_json([found]))

    assert said["seeds"] == {"new": [0, 1, 2, 3, 4, 5], "baseline": [0, 1], "compared": [0, 1]}


def test_the_command_ends_with_1_where_the_paired_ratio_is_too_low(records, tmp_path, typed):
    store = Store(tmp_path)
    store.open_for_writing()
    for record in records:
        store.save(record, {})
    asked = ("compare", "head", "full", "--results", tmp_path, "--fail-if")
    code, said = typed(*asked, "ratio(accuracy_top1) < 0.98")
    fine, _ = typed(*asked, "ratio(accuracy_top1) < 0.85")

    assert (code, fine) == (1, 0)
    assert "0.90×" in said
    assert "1.38" not in said
    assert "head was tested with seeds 0 to 5" in said


def test_overlapping_seeds_are_paired_whatever_lies_beside(make, no_details):
    """Seeds 2 and 3: 0.6 and 0.8 against 0.5 and 0.5, 0.7 / 0.5 = 1.4."""
    records = trained(make, "head", {1: 0.1, 3: 0.8, 2: 0.6})
    records += trained(make, "full", {2: 0.5, 9: 1.0, 3: 0.5})
    accuracy = put(records, no_details).find("accuracy_top1")

    assert (accuracy.new, accuracy.baseline) == (pytest.approx(0.7), 0.5)
    assert (accuracy.ratio, accuracy.pairs) == (pytest.approx(1.4), 2)


def test_without_a_common_seed_nothing_stands_side_by_side_and_no_gate_passes(make, no_details):
    records = [*trained(make, "head", {1: 0.9}), *trained(make, "full", {2: 0.8, 3: 0.6})]
    found = put(records, no_details)
    accuracy = found.find("accuracy_top1")
    conditions = [
        gate.parse_judged(f"{function}(accuracy_top1) < 0")
        for function in ("ratio", "difference", "value", "baseline")
    ]

    assert (accuracy.new, accuracy.baseline, accuracy.difference, accuracy.ratio) == (None,) * 4
    assert accuracy.verdict.word is VerdictWord.NONE
    assert (
        "accuracies are not compared, for no seed is in both: head was tested with seed 1 (mean "
        "0.900); full was tested with seeds 2 and 3 (mean 0.700)"
    ) in found.remarks
    lines = gate.failures([found], conditions)
    assert len(lines) == 4
    assert all(line.endswith("no seed was trained with both") for line in lines)


def test_seeds_that_diverged_are_in_no_pair_and_are_named(make, no_details):
    """Head completed four of six: 0.6 against the first four 0.5, not against all (0.667)."""
    records = [*trained(make, "head", [0.6] * 4), *failed(make, "head", 4, 5)]
    records += trained(make, "full", [0.5] * 4 + [1.0] * 2)
    found = put(records, no_details)
    accuracy = found.find("accuracy_top1")

    assert (accuracy.new, accuracy.baseline) == (pytest.approx(0.6), 0.5)
    assert accuracy.pairs == 4
    assert "head, seed 4: diverged (why)" in found.remarks
    assert any("head was tested with seeds 0 to 3" in line for line in found.remarks)


def test_what_only_one_row_was_trained_for_is_its_own(make, no_details):
    records = [*trained(make, "head", HEAD), make("full", peak_counted_bytes=MIB)]
    accuracy = put(records, no_details).find("accuracy_top1")

    assert (accuracy.new, accuracy.baseline) == (pytest.approx(4.6 / 6), None)


def test_equal_seeds_need_no_words(make, no_details):
    found = put([*trained(make, "head", FULL), *trained(make, "full", FULL)], no_details)

    assert not any("tested with" in line for line in found.remarks)
    assert "seeds" not in contrast_document.table.summary([found])[0]


def retuned(record, **changes):
    """Return a later training of the same seed, for which something else was tried."""
    training = record.spec.training.model_copy(update=changes)
    spec = record.spec.model_copy(update={"training": training})
    later = {"finished_at": "2026-01-02T00:00:00+00:00", "key": f"{record.key}-again"}
    return record.model_copy(update={"spec": spec} | later)


def test_a_seed_trained_twice_counts_once_as_it_was_last(make, no_details):
    """The tries differ, and so do the trials; 0.9 of seed 0 is older than 0.5."""
    first, second = trained(make, "head", [0.9, 0.7])
    again = retuned(first.model_copy(update={"measurements": {"accuracy_top1": 0.5}}), tries=())
    for records in ([first, second, again], [again, second, first]):
        (comparison,) = compare(records, no_details)
        (row,) = comparison.rows

        assert row.accuracy() == mean_and_range([0.7, 0.5])
        assert seed_pairing.tested(row) == (0, 1)


def test_two_ends_of_the_learning_rate_are_two_rows(make, no_details):
    (first,) = trained(make, "head", [0.9])
    (comparison,) = compare([first, retuned(first, final_learning_rate=1e-4)], no_details)

    assert [row.label for row in comparison.rows] == [
        "head [learning rate 0.001]",
        "head [learning rate 0.001 to 0.0001]",
    ]


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

    assert "for 40 steps with seeds of its own (head: seeds 0 to 5; full: seeds 0 and 1)" in text
    assert "with 6 seeds" not in text
    assert r"| head | 0.767 \[0.500, 0.900\] | 6 (0 to 5) |" in text
    assert "- tested with seeds 0 and 1: full" in text
    assert "head & 0.767 [0.500, 0.900] & 6 (0 to 5) &" in tex
    assert r"\textbf{0.767" not in tex
    assert "no accuracy is called the best" in tex
    assert lines["head"]["tested_seeds"] == "0 1 2 3 4 5"
    assert (lines["full"]["seeds"], lines["full"]["tested_seeds"]) == ("2", "0 1")


def test_the_sentence_of_a_report_compares_the_seeds_that_all_rows_have(comparison):
    """Over seeds 0 and 1 head has 0.5 and full 0.555."""
    _, finding, cannot = notes.summary(comparison)

    assert finding == (
        "Test accuracy, mean over the 2 seeds that all rows have (0 and 1): full 0.555, highest "
        "full 0.555."
    )
    assert "rows were tested with different seeds, so no accuracy is called the best" in cannot
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
    assert "seeds differ from row to row, so no accuracy is called the best" in printed
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

    assert "2 to 6 seeds from row to row (so no Pareto front)" in drawn["accuracy-memory"]
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
    assert by_seed == {"accuracy_top1", "busiest_experts_share", "final_loss", "training_seconds"}


def test_the_page_hides_the_seeds_that_all_rows_have(make, no_details):
    records = [*trained(make, "head", FULL), *trained(make, "full", FULL)]
    records += [make("bsr", peak_counted_bytes=MIB)]
    (part,) = page_data(compare(records, no_details), "t")["comparisons"]

    assert dict(part["columns"])["seeds"] is False


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((), "none"),
        ((3,), "3"),
        ((0, 1), "0 and 1"),
        ((0, 1, 2), "0 to 2"),
        ((0, 2, 5), "0, 2 and 5"),
        ((0, 1, 2, 7, 9, 10, 11), "0 to 2, 7 and 9 to 11"),
        ((4, 5, 8), "4, 5 and 8"),
    ],
)
def test_seeds_in_words(numbers, expected):
    assert seed_pairing.in_words(numbers) == expected


def test_the_most_seeds_that_two_rows_share(make, no_details):
    """Of 0 to 5, 0 to 5 and 4 to 9: six; without the second: 4 and 5; alone its own ten."""
    of = {"a": range(6), "b": range(6), "c": range(4, 10)}

    def rows(*names):
        (found,) = compare(
            [r for name in names for r in trained(make, name, dict.fromkeys(of[name], 0.5))],
            no_details,
        )
        return found.rows

    assert [seed_pairing.most_shared(rows(*names)) for names in ("abc", "ac", "a")] == [6, 2, 6]
    assert seed_pairing.most_shared([]) == 0


def test_of_many_rows_a_sentence_names_a_few(make, no_details):
    records = [r for n in range(5) for r in trained(make, f"m{n}", [0.5, 0.6])]
    records += [r for n in range(5, 9) for r in trained(make, f"m{n}", {n: 0.5})]
    (comparison,) = compare(records, no_details)

    assert seed_pairing.in_short(comparison.rows) == (
        "m0, m1, m2 and 2 more: seeds 0 and 1; m5: seed 5; m6: seed 6; 2 more rows: others"
    )
    assert len(notes.doubts(comparison)) >= 6  # all of them, a line a set


def test_a_suite_names_each_seed_once(tmp_path, typed):
    path = tmp_path / "s.toml"
    path.write_text(
        'seeds = [0, 1, 0]\n[workload]\nmodel = "test_vit"\n[training]\nsteps = 1\n'
        'learning_rate = 1e-3\n[[methods]]\nmethod = "full"\n'
    )
    code, said = typed("run", path, "--dry-run")

    assert code == 2
    assert "seeds" in said
    assert "0 twice" in said
