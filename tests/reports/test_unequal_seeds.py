"""Rows that were tested with different seeds: what is compared, what is not, and what is said.

The first case is ``head`` with seeds 0 to 5 and ``full`` with 0 and 1: over all of its own head
has 4.6 / 6 = 0.767 and full 0.555, over the two that both have head has 0.5, 0.5 / 0.555 = 0.9009.
"""

import json

import pytest

from bsrbench.harness.records.store import Gathered, Store
from bsrbench.reports.compare import gate, seed_pairing
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import contrast
from bsrbench.reports.compare.matching import match
from bsrbench.reports.compare.statistics import mean_and_range
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.documents import (
    contrast_document,
)
from bsrbench.reports.wording import notes
from tests.reports.seed_records import FULL, HEAD, MIB, failed, head_and_full, trained
from tests.trial_records import altered


@pytest.fixture
def records(make):
    return head_and_full(make)


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
    assert bool(gate.judge([found], [gate.parse_judged(condition)]).failed) == fails


def test_a_gate_says_over_which_seeds_its_number_is(found):
    (line,) = gate.judge([found], [gate.parse_judged("ratio(accuracy_top1) < 0.98")]).failed

    assert line.endswith("the value is 0.900901 over the 2 seeds that both have (0 and 1)")


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
        store.save(record)
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
        "accuracies are not compared, because no seed is in both: head was tested with seed 1 "
        "(mean 0.900); full was tested with seeds 2 and 3 (mean 0.700)"
    ) in found.remarks
    lines = gate.judge([found], conditions).failed
    assert len(lines) == 4
    assert all(line.endswith("the rows have no seed in common") for line in lines)


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
    return altered(record, **({"spec": spec} | later))


def test_a_seed_trained_twice_counts_once_as_it_was_last(make, no_details):
    """The tries differ, and so do the trials; 0.9 of seed 0 is older than 0.5."""
    first, second = trained(make, "head", [0.9, 0.7])
    again = retuned(altered(first, measurements={"accuracy_top1": 0.5}), tries=())
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
        "m0, m1, m2 and 2 more: seeds 0 and 1; m5: seed 5; m6: seed 6; 2 more rows: other seeds"
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
