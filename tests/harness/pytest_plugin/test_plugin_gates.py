"""Gates of the pytest plugin: what passes, fails and is refused."""

import re

import pytest

from tests.harness.pytest_plugin.authors_repository import (
    BENCHMARK,
    FAILED,
    ONE_TEST,
    PLAIN_TEST,
    TINY,
    run_pytest,
)

DISABLED = "benchmarks are disabled (--benchmark-disable, or pytest-xdist)"
NOT_ASKED = "the fixture bsrbench does not measure it; try 'bsrbench profile'"


def test_a_gate_that_passes_lets_the_run_pass(tmp_path):
    """Memory and FLOPs are measured though nothing is timed; the baseline comes from the option."""
    done = run_pytest(
        *(tmp_path, *BENCHMARK, "--benchmark-disable", "--bsrbench-baseline", "full"),
        *("--bsrbench-fail-if", "ratio(peak_counted_bytes) > 1.02"),
        *("--bsrbench-fail-if", "baseline(trained_parameters)<1"),
        test_head=ONE_TEST,
    )
    row = next(line for line in done.stdout.splitlines() if line.strip().startswith("head "))

    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert re.search(r"^\s*head +\d+\.\d +0\.\d\d× +\d+\.\d\d +0\.\d\d× +– +– +full$", row)


def test_a_gate_that_holds_fails_the_run_from_another_process_too(tmp_path):
    done = run_pytest(
        *(tmp_path, *BENCHMARK, "--benchmark-disable", "-p", "xdist.plugin", "-n", "1"),
        *("--bsrbench-fail-if", "value(trained_parameters) >= 325"),
        *("--bsrbench-fail-if", "value(step_seconds) > 60"),
        *("--bsrbench-fail-if", "value(accuracy_top1) < 0.5"),
        *("--bsrbench-fail-if", "value(trained_parameters) > 325"),
        test_head=ONE_TEST,
    )
    begin = f"{FAILED}test_head.py::test_head: "
    said = [line for line in done.stdout.splitlines() if line.startswith(begin)]

    assert done.returncode == 1, done.stdout
    assert "1 passed" in done.stdout
    assert [line.removeprefix(begin) for line in said] == [
        "value(trained_parameters) >= 325: the value is 325",
        "value(step_seconds) > 60 cannot be decided: no step_seconds: " + DISABLED,
        "value(accuracy_top1) < 0.5 cannot be decided: no accuracy_top1: " + NOT_ASKED,
    ]


def test_a_gate_that_no_number_can_reach_is_refused_before_any_test(tmp_path):
    done = run_pytest(
        *(tmp_path, *BENCHMARK, "--bsrbench-fail-if", "ratio(peak_countd_bytes) > 1"),
        test_head=ONE_TEST,
    )

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--bsrbench-fail-if" in done.stderr
    assert "did you mean 'peak_counted_bytes'?" in done.stderr


@pytest.mark.parametrize("bound", ["inf", "-inf", "1e999", "nan"])
def test_a_bound_that_bounds_nothing_is_refused_before_any_test(bound, tmp_path):
    gated = ("--bsrbench-fail-if", f"ratio(peak_counted_bytes) > {bound}")
    done = run_pytest(tmp_path, *BENCHMARK, *gated, test_head=ONE_TEST)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{bound} is not a finite number" in done.stderr


UNMEASURED = f"""
import pytest

from bsrbench.harness.method import Unsupported

TINY = {TINY!r}


def test_expected(bsrbench):
    with pytest.raises(Unsupported):
        bsrbench("bsr", **TINY)


def test_skipped(bsrbench):
    pytest.skip("not today")


@pytest.mark.skip
def test_marked(bsrbench):
    pass


def test_plain():
    pass


def test_lean(bsrbench):
    found = bsrbench("full", baseline="full (micro-batch 1)", **TINY)

    assert found.baseline.spec.workload.micro_batch == 1
    assert found.baseline.spec.workload.batch == 4
"""


def test_a_test_that_measured_nothing_is_named_beside_the_gate(tmp_path):
    """And a baseline is named by its label."""
    gated = ("--benchmark-disable", "--bsrbench-fail-if", "ratio(peak_counted_bytes) > 9")
    done = run_pytest(tmp_path, *BENCHMARK, *gated, test_it=UNMEASURED)
    named = re.findall(
        "^--bsrbench-fail-if did not judge test_it.py::(.*): it measured nothing$",
        done.stdout,
        re.MULTILINE,
    )

    assert done.returncode == 0, done.stdout
    assert named == ["test_expected", "test_skipped", "test_marked"]
    assert re.search(r"^\s*full +\d.* full \(micro-batch 1\)$", done.stdout, re.MULTILINE)


def test_a_gate_that_judges_nothing_says_so(tmp_path):
    gated = ("--bsrbench-fail-if", "value(step_flop) > 1")
    done = run_pytest(tmp_path, *BENCHMARK, *gated, test_nothing=PLAIN_TEST)

    assert done.returncode == 0
    assert "--bsrbench-fail-if judged nothing" in done.stdout
