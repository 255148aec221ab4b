"""The goals of a suite are judged by ratios of rows, and said in a table."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.suite_goal import Goal
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.judged_goals import Met, judge, require_known
from bsrbench.reports.documents import goals_table

CUDA = {"device": "cuda"}


@pytest.fixture
def judged(make, no_details):
    """Return what judges goals by two rows that were timed in turns; bsr fails on cuda:1.

    The steps of ``bsr`` take 1/4 of those of ``full`` in every round.
    """
    records = [
        make("full", step_seconds=[0.4] * 3, peak_counted_bytes=100),
        make("bsr", step_seconds=[0.1] * 3, peak_counted_bytes=30),
        make("late", step_seconds=[0.1] * 3, group="h"),
        make("full", workload={"device": "cuda:1"}, step_seconds=[0.4] * 3),
        make("bsr", workload={"device": "cuda:1"}, status="crashed"),
    ]
    comparisons = compare(records, no_details)
    return lambda **goal: judge([Goal(**{"row": "bsr", "at_most": 1.0} | goal)], comparisons)


HERE = {"workload": {"device": "cpu"}}


@pytest.mark.parametrize(
    ("goal", "met", "ratio"),
    [
        ({"at_most": 0.25}, Met.YES, 0.25),
        ({"at_most": 0.2499}, Met.NO, 0.25),
        ({"metric": "peak_counted_bytes", "at_most": 0.3}, Met.YES, 0.3),
        ({"metric": "peak_counted_bytes", "at_most": 0.29}, Met.NO, 0.3),
        ({"row": "full", "to": "bsr", "at_most": 3.0}, Met.NO, 4.0),
    ],
)
def test_a_ratio_up_to_the_bound_meets_a_goal(goal, met, ratio, judged):
    (found,) = judged(**HERE | goal)

    assert (found.met, found.ratio) == (met, pytest.approx(ratio))


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        ({"row": "late"}, "not timed in turns with each other"),
        ({"row": "tome"}, "no record of tome"),
        ({"metric": "evaluation_seconds"}, "bsr: a test"),
        ({"workload": {"device": "cuda:1"}}, "bsr: seed 0: crashed (why)"),
        ({"workload": {"device": "mps"}}, "no record of this question"),
    ],
)
def test_a_goal_without_a_ratio_says_why(goal, why, judged):
    (found,) = judged(**HERE | goal)

    assert (found.met, found.ratio, found.why) == (Met.UNKNOWN, None, why)


def test_a_goal_of_every_question_is_judged_in_each(judged):
    found = judged(at_most=0.3)

    assert [(each.setting.rpartition(", ")[2], each.met) for each in found] == [
        ("cpu", Met.YES),
        ("cuda:1", Met.UNKNOWN),
    ]


def test_each_machine_has_its_own_ratio(make, no_details):
    records = [
        make(name, step_seconds=[seconds] * 3, machine=machine, group=machine)
        for machine, fast in (("m", 0.1), ("n", 0.3))
        for name, seconds in (("full", 0.4), ("bsr", fast))
    ]
    found = judge([Goal(row="bsr", at_most=0.5)], compare(records, no_details))

    assert [(each.ratio, each.met) for each in found] == [
        (pytest.approx(0.25), Met.YES),
        (pytest.approx(0.75), Met.NO),
    ]
    assert [each.setting[-9:] for each in found] == ["machine m", "machine n"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("step_second", "did you mean 'step_seconds'"),
        ("final_loss", "compares final_loss, which cannot be judged as a ratio"),
    ],
)
def test_a_metric_without_a_ratio_is_refused(metric, said):
    with pytest.raises(BadInput, match=said):
        require_known([Goal(row="bsr", metric=metric, at_most=1.0)])


def test_the_table_says_goal_and_measured_and_met(judged, tmp_path):
    goals_table.write(judged(at_most=0.3), "goals of x_y", tmp_path / "goals.md")
    page = (tmp_path / "goals.md").read_text()

    assert page.startswith("# goals of x\\_y\n\n## test\\_vit at 64 px")
    assert "| bsr: step\\_seconds at most 0.3 of full | 0.250 \\[0.250, 0.250\\] | yes |" in page
    assert (
        "| bsr: step\\_seconds at most 0.3 of full | bsr: seed 0: crashed (why) | not measured"
        in (page)
    )
    assert page.endswith("1 of 2 goals met, 0 missed, 1 not measured\n")
