"""Rows of several round groups: each pair is compared where both took turns, and nowhere else."""

import csv
import io
import itertools
import json

import pytest
from rich.console import Console

from bsrbench.harness.records.store import Gathered
from bsrbench.reports.compare import gate
from bsrbench.reports.compare.anchors import compared_with
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.matching import match
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.documents import terminal_table, write_report
from bsrbench.reports.figures import all_figures
from bsrbench.reports.page import page_data
from bsrbench.reports.wording import claims, contrast_table, notes, timing_notes
from tests.reports.added_row import AGAIN, FIRST, MINE
from tests.reports.one_comparison import no_details, only
from tests.trial_records import altered


@pytest.fixture
def records(stored, add):
    return [*stored, add("mine", MINE, AGAIN, stored)]


def ratios_of(comparison):
    """Return the ratio of step times of each pair of rows that has one, rounded."""
    found = {
        (row.label, other.label): comparison.ratio(row, "step_seconds", to=other.label)
        for row, other in itertools.permutations(comparison.rows, 2)
    }
    return {pair: round(ratio, 6) for pair, ratio in found.items() if ratio is not None}


def finding(records, new, baseline):
    comparison = only(records)
    pair = Pair(comparison.find(new), comparison.find(baseline), "here")
    (found,) = contrast([pair], no_details)
    return found


def test_every_pair_is_compared_in_a_group_in_which_both_stand(records):
    """Mine / full = 2.4 / 6 and mine / bsr = 2.4 / 4; head took no turns with mine."""
    found = ratios_of(only(records))

    assert found["mine", "full"] == 0.4
    assert found["mine", "bsr"] == 0.6
    assert found["full", "mine"] == 2.5
    assert ("mine", "head") not in found
    assert ("head", "mine") not in found


def test_a_row_that_is_added_changes_no_ratio_that_was_there(stored, records):
    """Bsr / full stays 2 / 4, though in the new group it would be 4 / 6."""
    before, after = ratios_of(only(stored)), ratios_of(only(records))

    assert before["bsr", "full"] == 0.5
    assert {pair: after[pair] for pair in before} == before
    assert finding(records, "bsr", "full").findings == finding(stored, "bsr", "full").findings
    assert finding(records, "bsr", "full").remarks == ()


def test_of_several_groups_the_newest_counts(stored, add, make):
    """Bsr comes last: full and mine then stand in two groups, 2.4 / 6 and 3 / 5."""
    others = [record for record in stored if record.spec.method != "bsr"]
    mine = add("mine", MINE, {"full": AGAIN["full"]}, others)
    again = {"full": [5.0] * 3, "mine": [3.0] * 3, "head": [1.5] * 3}
    late = add("bsr", [2.5] * 3, again, [*others, mine], "i", "2026-03-03T00:00:00+00:00")
    found = ratios_of(only([*others, mine, late]))

    assert found["mine", "full"] == 0.6
    assert found["bsr", "mine"] == round(2.5 / 3, 6)


def test_a_group_of_several_new_rows_is_as_new_as_the_last_of_them(stored, add):
    """Bsr / full is 4 / 6 in the group whose second row was finished last, else 2.5 / 5."""
    elsewhere = {"round_group": "alone"}
    apart = [stored[0], altered(stored[1], environment=elsewhere)]
    other = {"full": [5.0] * 3, "bsr": [2.5] * 3}
    added = [
        add("first", MINE, AGAIN, apart, "h", "2026-02-01T00:00:00+00:00"),
        add("between", MINE, other, apart, "i", "2026-02-02T00:00:00+00:00"),
        add("last", MINE, AGAIN, apart, "h", "2026-02-03T00:00:00+00:00"),
    ]

    assert ratios_of(only([*apart, *added]))["bsr", "full"] == round(4 / 6, 6)


def test_two_stored_rows_are_compared_where_they_took_turns_with_a_third(stored, add):
    """Mine and head were never new together; both took turns with bsr, which came last."""
    others = [record for record in stored if record.spec.method != "bsr"]
    mine = add("mine", MINE, {"full": AGAIN["full"]}, others)
    late = add("bsr", [2.5] * 3, {"mine": [3.0] * 3, "head": [1.5] * 3}, [*others, mine], "i")

    assert ratios_of(only([*others, mine, late]))["mine", "head"] == 2.0


def test_history_counts_where_a_row_took_turns(stored, records):
    """The record of mine is of an older source by now; full and bsr are what they were."""
    newer = altered(
        records[-1],
        **(
            {"key": "newer", "beside": {}, "finished_at": "2026-04-04T00:00:00+00:00"}
            | {"environment": {"round_group": "k"}}
        ),
    )
    elsewhere = {"round_group": "alone"}
    apart = [stored[0], altered(stored[1], environment=elsewhere)]
    found = ratios_of(only([*apart, records[-1], newer]))

    assert found["bsr", "full"] == round(4 / 6, 6)
    assert ("mine", "full") not in found


def test_a_comparison_shows_the_seconds_that_its_ratio_is_of(records):
    """Not 2.4 beside full's own 4.0, which were never taken in turns."""
    found = finding(records, "mine", "full")
    times = found.find("step_seconds")

    assert (times.new, times.baseline) == (2.4, 6.0)
    assert times.difference == pytest.approx(-3.6)
    assert times.verdict.word is VerdictWord.BETTER
    assert found.remarks[-1] == (
        "full: its times here were measured again on 2026-02-02, in turns with new rows; its own "
        "record has 4,000 ms per step"
    )


def test_a_pair_that_took_no_turns_says_so(records):
    found = finding(records, "mine", "head")
    times = found.find("step_seconds")

    assert (times.ratio, times.difference) == (None, None)
    assert contrast_table.reasons(found) == [
        "step_seconds no verdict: not timed in turns with each other"
    ]


def test_a_gate_judges_the_ratio_of_the_turns_that_both_took(records):
    condition = gate.parse_judged("ratio(step_seconds) > 0.5")

    assert gate.judge([finding(records, "mine", "full")], [condition]).failed == ()
    (reason,) = gate.judge([finding(records, "mine", "head")], [condition]).failed
    assert reason.endswith("cannot be decided: not timed in turns with each other")


def test_rows_of_two_folders_are_compared_by_what_either_knows(stored, records):
    """The folder of the new record alone holds what the stored row took in turns with it."""
    new, old = only(records[-1:]).rows[0], only(stored).find("full")
    for first, second in ((new, old), (old, new)):
        (found,) = contrast([Pair(first, second, "")], no_details)

        assert found.find("step_seconds").ratio == pytest.approx(0.4 if first is new else 2.5)


def test_a_folder_against_its_copy_has_no_ratio_but_one(records):
    copy = only([altered(record) for record in records])
    found = contrast(
        [Pair(row, copy.find(row.label), "") for row in only(records).rows], no_details
    )

    assert [one.find("step_seconds").ratio for one in found] == [1.0] * 4


def test_a_missing_ratio_is_marked_in_no_document(records, make, tmp_path):
    slow = make("slow", step_seconds=[9.0] * 3, group="alone", peak_counted_bytes=1)
    comparisons = write_report.write([*records, slow], tmp_path, "t", no_details)
    console = Console(width=200, record=True, file=io.StringIO())
    terminal_table.show(comparisons, console)

    assert "**–**" not in (tmp_path / "report.md").read_text()
    assert r"\textbf{–}" not in (tmp_path / "report.tex").read_text()
    assert r"\textbf{--}" not in (tmp_path / "report.tex").read_text()
    assert "*–" not in console.export_text()


NOTE = "rows were timed in 2 round groups (full, bsr, head | mine), and times from different "


def test_every_document_says_that_rows_come_from_several_groups(records, tmp_path):
    comparisons = write_report.write(records, tmp_path, "t", no_details)
    console = Console(width=200, record=True, file=io.StringIO())
    terminal_table.show(comparisons, console)

    assert notes.doubts(comparisons[0])[0].startswith(NOTE)
    assert NOTE in console.export_text().replace("\n", "")
    assert NOTE.replace("|", r"\|") in (tmp_path / "report.md").read_text()
    assert "rows were timed in 2 round groups" in (tmp_path / "report.tex").read_text()
    assert NOTE in (tmp_path / "report.html").read_text()


def test_rows_of_one_group_need_no_note(stored):
    assert timing_notes.timed_apart(only(stored)) == []


def test_rows_without_a_ratio_to_the_reference_are_named(stored, make):
    comparison = only([*stored, make("mine", step_seconds=[0.1] * 3, group="alone")])

    assert timing_notes.timed_apart(comparison)[1] == (
        "no ratio of times to full, because these rows were not timed in turns with it: mine"
    )


def test_the_csv_holds_the_ratios_of_both_groups(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)
    with (tmp_path / "comparison.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}

    assert float(lines["mine"]["step_seconds_over_full"]) == pytest.approx(0.4)
    assert float(lines["bsr"]["step_seconds_over_full"]) == pytest.approx(0.5)
    assert lines["head"]["step_seconds_over_bsr"] == "0.5"
    assert float(lines["mine"]["step_seconds"]) == 2.4


def test_the_claims_are_held_against_a_row_that_was_added(records):
    """Mine takes 2.4 / 4 of bsr's time, full 4 / 2."""
    page = claims.page(records, no_details)
    (line,) = (
        line
        for line in page.splitlines()
        if line.startswith("| time of a training step") and "2.00×" in line and "0.60×" in line
    )

    assert line.split(" | ")[2:] == ["**2.00×**", "0.50×", "0.60× |"]


def test_the_figures_of_time_are_of_ratios_where_seconds_do_not_compare(records, make, tmp_path):
    trained = [
        make(name, accuracy_top1=reached)
        for name, reached in (("full", 0.75), ("bsr", 0.5), ("mine", 0.625), ("head", 0.25))
    ]
    alone = [make("alone", step_seconds=[1.0] * 3, group="x"), make("alone", accuracy_top1=0.5)]
    comparison = only([*records, *trained, *alone])
    drawn = {
        figure.name: figure.caption for figure in all_figures.write_all([comparison], tmp_path)
    }

    assert "step relative to full; rows were timed in several" in drawn["accuracy-time"]
    assert drawn["accuracy-time"].endswith(
        "Not drawn: no ratio of times to full, because these rows were not timed in turns with it: "
        "alone."
    )
    assert "relative to full" in (tmp_path / "accuracy-time.svg").read_text()


def test_the_page_knows_the_visits_of_each_group(records):
    data = json.loads(page_data.page_text(compare(records, no_details), "t"))
    rows = {row["label"]: row for row in data["comparisons"][0]["rows"]}

    assert rows["mine"]["group"] == 0  # the newest
    assert {rows[name]["group"] for name in FIRST} == {1}
    assert rows["full"]["visits"] == {"step_seconds": {"0": [4.0], "1": [4.0], "2": [4.0]}}
    assert rows["full"]["again"] == {
        "0": {"step_seconds": {"0": [6.0], "1": [6.0], "2": [6.0]}},
    }
    assert rows["head"]["again"] == rows["mine"]["again"] == {}
    assert data["columns"]["images_per_second"]["timedBy"] == "step_seconds"


def test_selection_pairs_a_new_row_with_stored_ones(records):
    (pair,) = match("mine", "bsr", Gathered(records, [], ())).pairs
    (found,) = contrast([pair], no_details)

    assert found.find("step_seconds").ratio == pytest.approx(0.6)


def test_all_are_compared_with_the_plain_reference_and_baseline(make):
    """With plain rows there, those on an axis or with options are none of the two."""
    lean = make("full", step_seconds=[1.0], workload={"micro_batch": 2}).spec
    plain = [make(name, step_seconds=[1.0]).spec for name in ("full", "bsr", "head")]
    changed = plain[1].model_copy(update={"options": {"fuse": False}})

    assert compared_with([lean, changed, *plain]) == plain[:2]
    assert compared_with([plain[2]]) == []


def test_without_a_plain_row_the_only_row_of_the_baseline_is_meant(make):
    """As in 'compare NEW bsr'; of several none is, for nobody said which."""
    head = make("head", step_seconds=[1.0]).spec
    plain = make("bsr", step_seconds=[1.0]).spec
    changed, other = (plain.model_copy(update={"options": {"keep_rate": r}}) for r in (0.5, 0.7))
    again = changed.model_copy(update={"seed": changed.seed + 1})

    assert compared_with([head, changed, again]) == [changed, again]
    assert compared_with([head, changed, other]) == []
