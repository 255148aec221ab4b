"""Rows are put against each other by method, options and axes; what has no counterpart is named."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Gathered, Store
from bsrbench.reports.compare import gate
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import contrast
from bsrbench.reports.compare.counterparts import without_counterpart
from bsrbench.reports.compare.matching import match
from bsrbench.reports.compare.selection import PlacedRow, Side, SideKind
from bsrbench.reports.documents import contrast_document
from tests.trial_records import altered, no_details

OLD, NEW = "aaa111", "bbb222"
BRACKETS = {"bsr": {"trained_blocks": [11], "drop_at": []}}
OTHERS = {"bsr": {"trained_blocks": [1, 2], "drop_at": []}}
LABEL = 'bsr+int8 (bsr={"trained_blocks": [11], "drop_at": []})'


@pytest.fixture
def of_commit(make_trial):
    """Return a maker of a record that was made at a commit."""

    def of_commit(commit, method, **values):
        record = make_trial(method, **{"peak_counted_bytes": 4} | values)
        environment = {"commit": commit}
        return altered(record, key=f"{record.key}-{commit}", environment=environment)

    return of_commit


def pool(*records):
    return Gathered(list(records), [], ())


def matched(new, baseline, *records, **asked):
    return match(new, baseline, pool(*records), **asked)


def of_commits(*records, **asked):
    return matched(f"commit:{NEW}", f"commit:{OLD}", *records, **asked)


def placed(*records):
    found = compare(records, no_details)
    return tuple(PlacedRow(comparison, row) for comparison in found for row in comparison.rows)


def labels(found):
    return [(pair.new.label, pair.baseline.label) for pair in found.pairs]


def both(of_commit, method, **values):
    return [of_commit(commit, method, **values) for commit in (OLD, NEW)]


STRANGE = [
    {"method": "bsr+int8", "options": BRACKETS},
    {"method": "bsr+int8", "options": OTHERS},
    {"method": "mine", "options": {"name": 'a " [b] (c), d'}},
    {"method": "mine", "options": {"name": 'a " [b] (d), d'}},
    {"method": "mine", "options": {"名前": "é  ü"}},
    {"method": "./x (1) [2]/mine.py:Mine", "options": {"x": 1}},
    {"method": "./x (1) [3]/mine.py:Mine", "options": {"x": 1}},
    {"method": "full"},
    {"method": "full", "workload": {"micro_batch": 1}},
    {"method": "full", "workload": {"precision": "bf16"}},
    {"method": "full", "machine": "n"},
]


def test_each_row_meets_itself_whatever_its_label_holds(of_commit):
    found = of_commits(*(r for row in STRANGE for r in both(of_commit, **row)))

    assert len(found.pairs) == len(STRANGE) == len({new for new, _ in labels(found)})
    assert all(new == old for new, old in labels(found))
    assert found.alone == ()


def test_each_row_can_be_asked_for_by_the_label_that_is_printed(of_commit, no_details):
    records = [of_commit(NEW, **row) for row in STRANGE]
    records.append(of_commit(NEW, "head"))
    (comparison,) = compare(records, no_details)
    asked = [row.label for row in comparison.rows if row.spec.method != "head"]

    assert len(asked) == len(STRANGE)
    assert [labels(matched(label, "head", *records)) for label in asked] == [
        [(label, "head")] for label in asked
    ]


def test_options_in_another_order_are_the_same_row(of_commit):
    first = of_commit(OLD, "mine", options={"a": 1, "b": 2})
    second = of_commit(NEW, "mine", options={"b": 2, "a": 1})

    assert labels(of_commits(first, second)) == [("mine (b=2, a=1)", "mine (a=1, b=2)")]


def test_rows_of_one_name_meet_their_like_first(of_commit):
    """Of two learning rates and two machines each meets its own; the rest meet what is left."""

    def rows(commit, *rates, machine="m"):
        return [
            trained_at(of_commit(commit, "bsr", seed=n, machine=machine, accuracy_top1=0.5), rate)
            for n, rate in enumerate(rates)
        ]

    found = of_commits(*rows(OLD, 0.1, 0.2, 0.3), *rows(NEW, 0.2, 0.1, 0.4))
    rates = [
        tuple(row.apart()["learning_rate"][0] for row in (p.new, p.baseline)) for p in found.pairs
    ]

    assert rates == [(0.2, 0.2), (0.1, 0.1), (0.4, 0.3)]
    assert found.alone == ()


def trained_at(record, rate):
    training = record.spec.training.model_copy(update={"learning_rate": rate})
    spec = record.spec.model_copy(update={"training": training})
    return altered(record, spec=spec, key=f"{record.key}-{rate}")


def test_learning_rates_that_look_alike_are_told_apart(of_commit, no_details):
    """Six digits would print 0.1 for both."""
    records = [
        trained_at(of_commit(NEW, "bsr", seed=seed, accuracy_top1=0.5), rate)
        for seed, rate in enumerate((0.1, 0.10000001))
    ]
    (comparison,) = compare(records, no_details)

    assert [row.label for row in comparison.rows] == [
        "bsr [learning rate 0.1]",
        "bsr [learning rate 0.10000001]",
    ]
    assert len({row.identity() for row in comparison.rows}) == 2


def test_a_row_that_is_lost_is_named_and_fails_a_gate(of_commit, no_details):
    kept, lost = both(of_commit, "full"), of_commit(OLD, "bsr+int8", options=BRACKETS)
    found = of_commits(*kept, lost)
    (alone,) = found.alone
    contrasts = contrast(found.pairs, no_details)
    conditions = [gate.parse("ratio(peak_counted_bytes) > 1.0")]

    assert alone.lost
    assert alone.said.startswith(f"{LABEL} (test_vit")
    assert alone.said.endswith(
        f" of the baseline 'commit:{OLD}' has no counterpart in 'commit:{NEW}'"
    )
    assert gate.judge(contrasts, conditions).failed == ()
    assert gate.judge(contrasts, conditions, found.alone).failed == (
        f"{alone.said}: a missing row cannot pass",
    )
    assert gate.judge(contrasts, [], found.alone).failed == ()  # no gate, no failure


def test_a_question_that_is_lost_whole_is_a_loss_of_its_rows(of_commit):
    kept = both(of_commit, "full")
    lost = [of_commit(OLD, name, workload={"batch": 8}) for name in ("full", "bsr")]
    said = [one.said for one in of_commits(*kept, *lost).alone]

    assert ["full (test_vit" in said[0], "bsr (test_vit" in said[1]] == [True, True]
    assert "batch 8" in said[0]
    assert said[0].endswith(", where the row of this name has another workload")
    assert said[1].endswith(f"no counterpart in 'commit:{NEW}'")


def test_a_new_row_is_named_and_its_own_values_are_judged(of_commit, no_details):
    kept, new = both(of_commit, "full"), of_commit(NEW, "head", peak_counted_bytes=9)
    found = of_commits(*kept, new)
    (alone,) = found.alone

    def failures(*texts):
        return gate.judge((), map(gate.parse, texts), found.alone).failed

    assert not alone.lost
    assert alone.said.endswith(
        f" of 'commit:{NEW}' has no counterpart in the baseline 'commit:{OLD}'"
    )
    assert failures("ratio(peak_counted_bytes) > 1", "value(peak_counted_bytes) > 9") == ()
    (line,) = failures("value(peak_counted_bytes) >= 9")
    assert line.endswith("value(peak_counted_bytes) >= 9: the value is 9")
    (line,) = failures("value(step_flop) > 1")
    assert line.endswith("value(step_flop) > 1 cannot be decided: a test")


def test_a_row_on_other_axes_is_no_counterpart(of_commit):
    """Were all rows of each side alike, nothing would state the axis, and labels be equal."""
    sides = of_commit(OLD, "bsr"), of_commit(NEW, "bsr", workload={"precision": "bf16"})

    with pytest.raises(BadInput, match=r"bsr has other axes there \(fp32\).*--unlike"):
        of_commits(*sides)
    assert labels(of_commits(*sides, even_unlike=True)) == [("bsr", "bsr")]


def test_two_rows_of_one_method_are_never_put_against_each_other(of_commit):
    sides = (
        of_commit(OLD, "bsr+int8", options=BRACKETS),
        of_commit(NEW, "bsr+int8", options=OTHERS),
    )

    with pytest.raises(BadInput, match="matched by method, options and axes"):
        of_commits(*sides, even_unlike=True)


def test_of_a_row_against_a_commit_only_that_row_is_looked_for(of_commit):
    """There it stands on two batches, among the results on one; full was not asked for."""
    baseline = [
        of_commit(OLD, name, workload={"batch": batch})
        for name in ("bsr", "full")
        for batch in (4, 8)
    ]
    ours = Side("bsr", SideKind.METHOD, placed(of_commit(NEW, "bsr")), dict)
    theirs = Side("old", SideKind.SET, placed(*baseline), dict)
    of_four = next(one.row for one in theirs.rows if one.row.label == "bsr")
    paired = [ours.rows[0].row, of_four]
    (alone,) = without_counterpart(ours, theirs, paired)

    assert of_four.spec.workload.batch == 4
    assert (alone.row.label, alone.lost) == ("bsr", True)
    assert "batch 8" in alone.said


def test_of_two_named_rows_questions_with_one_of_them_are_said_and_fail_nothing(of_commit):
    records = [
        of_commit(NEW, name, workload={"batch": batch})
        for name, batch in (("bsr", 4), ("full", 4), ("bsr", 8), ("full", 2))
    ]
    found = matched("bsr", "full", *records)

    assert [pair.new.spec.workload.batch for pair in found.pairs] == [4]
    assert [(one.of_baseline, one.lost) for one in found.alone] == [(True, False), (False, False)]
    assert found.alone[0].said.endswith(
        "batch 2, fp32, sgd, cpu): no row of 'bsr' has the same workload"
    )
    assert found.alone[1].said.endswith(
        "batch 8, fp32, sgd, cpu): no row of the baseline 'full' has the same workload"
    )


def test_a_record_is_put_against_another_whatever_it_is(of_commit, tmp_path, make_trial):
    store = Store(tmp_path)
    store.open_for_writing()
    paths = [store.save(of_commit(NEW, name)) for name in ("bsr", "full", "head")]
    against_record = match(str(paths[0]), str(paths[1]), pool())
    against_folder = match(str(paths[0]), str(tmp_path), pool())

    assert labels(against_record) == [("bsr", "full")]
    assert labels(against_folder) == [("bsr", "bsr")]
    assert against_record.alone == against_folder.alone == ()


def test_a_name_of_a_row_and_of_a_folder_means_the_row_and_says_so(
    of_commit, tmp_path, monkeypatch
):
    store = Store(tmp_path / "bsr")
    store.open_for_writing()
    store.save(of_commit(OLD, "head"))
    monkeypatch.chdir(tmp_path)
    records = [of_commit(NEW, "bsr"), of_commit(NEW, "head")]

    assert matched("bsr", "head", *records).said == (
        "'bsr' is read as the name of a row; for the folder, write './bsr'",
    )
    assert labels(matched("head", "./bsr", *records)) == [("head", "head")]


@pytest.mark.parametrize("name", ["x" * 3000, "a\0b", "nothing*", "bsr (", "]"])
def test_a_name_that_is_nothing_is_refused_whatever_it_is(of_commit, name):
    with pytest.raises(BadInput, match=r"no row .* among the results"):
        matched(name, "bsr", of_commit(NEW, "bsr"))


def test_rows_without_a_counterpart_stand_in_every_format(of_commit, no_details):
    found = of_commits(*both(of_commit, "full"), of_commit(OLD, "bsr"), of_commit(NEW, "head"))
    contrasts = contrast(found.pairs, no_details)

    assert [one.row.label for one in found.alone] == ["bsr", "head"]
    for form, write in contrast_document.FORMATS.items():
        text = write(contrasts, found.alone)
        assert text.count("has no counterpart in") == 2, form
