"""Conditions that fail a build: read, applied, and never passed for want of a number."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.reports.compare import gate
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast


def test_a_condition_is_read_and_written():
    found = gate.parse(" ratio( peak_counted_bytes ) >=  1.02 ")

    assert (found.function, found.metric, found.operator, found.bound) == (
        *("ratio", "peak_counted_bytes", ">="),
        1.02,
    )
    assert str(found) == "ratio(peak_counted_bytes) >= 1.02"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peak_counted_bytes > 1", "expected FUNCTION"),
        ("ratio(peak_counted_bytes)", "expected FUNCTION"),
        ("ratio(peak_counted_bytes) == 1", "expected FUNCTION"),
        ("__import__('os').system('true') > 1", "expected FUNCTION"),
        ("ratios(peak_counted_bytes) > 1", "did you mean 'ratio'"),
        ("ratio(peak_counted_byte) > 1", "did you mean 'peak_counted_bytes'"),
        ("ratio(peak_counted_bytes) > much", "not a number"),
        *(
            (f"ratio(peak_counted_bytes) > {bound}", f"{bound} is not a finite number")
            for bound in ("nan", "inf", "-inf", "1e999", "-1e999", "Infinity")
        ),
        ("", "expected FUNCTION"),
    ],
)
def test_what_is_no_condition_is_refused(text, said):
    with pytest.raises(BadInput, match=said):
        gate.parse(text)


@pytest.mark.parametrize(
    ("operator", "holds"), [(">", False), (">=", True), ("<", False), ("<=", True)]
)
def test_the_bound_itself_belongs_to_the_operators_that_say_so(operator, holds):
    assert gate.parse(f"value(step_flop) {operator} 5").holds(5.0) == holds


@pytest.fixture
def contrasts(make, no_details):
    records = [make("mine", peak_counted_bytes=103), make("bsr", peak_counted_bytes=100)]
    records += [make("mine", accuracy_top1=0.7), make("bsr", accuracy_top1=0.75)]
    (comparison,) = compare(records, no_details)
    return contrast([Pair(*comparison.rows, "here")], no_details)


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("ratio(peak_counted_bytes) > 1.02", True),
        ("ratio(peak_counted_bytes) > 1.03", False),
        ("difference(peak_counted_bytes) >= 3", True),
        ("value(peak_counted_bytes) > 102", True),
        ("baseline(peak_counted_bytes) > 100", False),
        ("difference(accuracy_top1) < -0.01", True),
        ("difference(accuracy_top1) < -0.1", False),
    ],
)
def test_each_function_reads_its_number(contrasts, condition, fails):
    assert bool(gate.judge(contrasts, [gate.parse(condition)]).failed) == fails


def test_one_regression_is_enough(contrasts):
    wanted = ["value(peak_counted_bytes) > 1e9", "ratio(peak_counted_bytes) > 1.02"]
    (line,) = gate.judge(contrasts, map(gate.parse, wanted)).failed

    assert line == "mine against bsr (here): ratio(peak_counted_bytes) > 1.02: the value is 1.03"


def test_what_has_no_value_cannot_pass_and_says_why(contrasts):
    (line,) = gate.judge(contrasts, [gate.parse("ratio(step_seconds) > 2")]).failed

    assert line.endswith("ratio(step_seconds) > 2 cannot be decided: mine: a test; bsr: a test")


def test_what_is_not_judged_has_its_values_and_no_ratio(make, no_details):
    records = [make("mine", images_per_second=7.0), make("bsr", images_per_second=9.0)]
    (comparison,) = compare(records, no_details)
    found = contrast([Pair(*comparison.rows, "here")], no_details)
    (line,) = gate.judge(found, [gate.parse_judged("value(images_per_second) < 8")]).failed

    assert line == "mine against bsr (here): value(images_per_second) < 8: the value is 7"
    with pytest.raises(BadInput, match="does not judge images_per_second; it judges accuracy"):
        gate.parse_judged("ratio(images_per_second) < 0.9")
