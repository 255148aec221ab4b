"""The pytest plugin in a repository of somebody else's, which has a method file and tests."""

import importlib
import importlib.util
import json
import re
import tomllib

import pytest

from bsrbench.harness.pytest_plugin import summary
from bsrbench.harness.pytest_plugin.counters import Counters
from bsrbench.harness.records.record_decoder import decode_record
from tests.harness.pytest_plugin.authors_repository import (
    BENCHMARK,
    FAILED,
    FAILURES,
    MINE,
    ONE_TEST,
    PLAIN_TEST,
    ROOT,
    TESTS,
    run_pytest,
)

SHOW_IMPORTS = """
import sys


def pytest_unconfigure():
    heavy = {"torch", "timm", "numpy", "pydantic", "rich", "scipy", "pytest_benchmark"}
    ours = {"bsrbench.methods", "bsrbench.reports"}
    foreign = {"harness", "methods", "reports", "suites"}
    print("imported:", sorted((heavy | ours | foreign) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """Return an author's repository, what pytest said there, and pytest-benchmark's JSON."""
    folder = tmp_path_factory.mktemp("author")
    done = run_pytest(
        *(folder, *BENCHMARK, "--benchmark-json=out.json", "--bsrbench-fail-if"),
        "ratio(peak_counted_bytes) > 0.9999",
        mine=MINE,
        test_mine=TESTS,
    )
    assert (folder / "out.json").exists(), done.stdout + done.stderr
    found = json.loads((folder / "out.json").read_text())
    return folder, done.stdout, {bench["name"]: bench for bench in found["benchmarks"]}


def test_an_authors_tests_pass_and_fail_as_they_should(timed):
    said = timed[1]

    assert re.search(rf"\b{len(FAILURES)} failed, 4 passed in ", said), said


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_measured_fails_its_test_by_one_clear_error(name, timed):
    said = timed[1]
    part = re.split(r"\n_{3,} (\w+) _{3,}\n", said)
    report = part[part.index(f"test_wrong_{name}") + 1]
    errors = [line for line in report.splitlines() if line.startswith("E ")]

    assert FAILURES[name] in errors[0]
    assert "bench.py" not in report  # no frames of ours before the reason
    assert "The above exception" not in report


def test_the_json_holds_what_profile_measures(timed, typed):
    folder, _, benchmarks = timed
    info = benchmarks["test_mine"]["extra_info"]
    options = ("--image-size", 64, "--batch", 4, "--classes", 5, "--threads", 1, "--rounds", 0)
    method = ("--method", f"{folder / 'mine.py'}:Mine", "--option", "norm=true")
    code, printed = typed("profile", "--model", "test_vit", *method, *options, "--json")
    measured = decode_record(printed.encode()).measurements

    assert code == 0
    for metric in ("peak_counted_bytes", "peak_allocated_bytes", "step_flop"):
        assert measured[metric] == info[metric] > 0
    assert info["trained_parameters"] == 325 + 128
    assert info["missing"] == {}
    assert info["method"] == "./mine.py:Mine (norm=true)"
    assert info["workload"]["model"] == "test_vit"


def test_the_json_holds_ratios_to_the_baseline(timed, launcher, make_spec):
    info = timed[2]["test_mine"]["extra_info"]
    full = Counters(launcher).read(make_spec("full")).measurements
    pairs = info["step_seconds_ratios"]

    assert info["baseline"] == "full"
    for metric in ("peak_counted_bytes", "peak_allocated_bytes", "step_flop", "trained_parameters"):
        assert info[f"{metric}_ratio"] == info[metric] / full[metric] < 1
    assert len(pairs) == 3
    assert info["step_seconds_ratio"] == sorted(pairs)[1]
    assert len(timed[2]["test_mine"]["stats"]["data"]) == 3
    assert "baseline" not in timed[2]["test_torch_is_left_as_it_was"]["extra_info"]


def test_the_table_shows_scaled_numbers(timed):
    _, said, benchmarks = timed
    info = benchmarks["test_mine"]["extra_info"]
    lines = said.splitlines()
    (title,) = [line for line in lines if "counted MiB" in line]
    (row,) = [line for line in lines if line.strip().startswith("./mine.py:Mine (norm=true)")]
    cells = re.split(r"\s{2,}", row.strip())

    assert re.split(r"\s{2,}", title.strip()) == list(summary.TITLES)
    assert f"{info['peak_counted_bytes'] / 2**20:.1f}" == cells[1]
    assert f"{info['peak_counted_bytes_ratio']:.2f}×" == cells[2]
    assert f"{info['step_flop'] / 1e9:.2f}" == cells[3]
    assert f"{info['step_flop_ratio']:.2f}×" == cells[4]
    assert re.fullmatch(r"\d+ \[\d+, \d+\]", cells[5])
    assert re.fullmatch(r"\d+\.\d\d× \[\d+\.\d\d, \d+\.\d\d\]", cells[6])
    assert cells[7] == "full"


def test_a_gate_without_a_baseline_fails_and_says_so(timed):
    """Two of the tests compare with nothing; the others' ratio is below the bound, or 1."""
    failed = [line for line in timed[1].splitlines() if line.startswith(FAILED)]
    alone = [line for line in failed if "cannot be decided: no baseline was named" in line]

    assert ["test_torch_is_left_as_it_was", "test_wrong_second_call"] == [
        re.search(r"::(\w+):", line)[1] for line in alone
    ]
    same = "test_mine.py::test_each_step_follows_one_of_the_baseline: "
    held = "ratio(peak_counted_bytes) > 0.9999: the value is 1.0"
    assert [line for line in failed if line not in alone] == [FAILED + same + held]


def test_without_pytest_benchmark_only_tests_that_need_it_fail(tmp_path):
    """And nothing is imported by the plugin's being there."""
    done = run_pytest(tmp_path, test_head=ONE_TEST, test_nothing=PLAIN_TEST, conftest=SHOW_IMPORTS)

    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "the fixture bsrbench needs pytest-benchmark, which is not" in done.stdout
    assert "imported: []" in done.stdout


def test_the_plugin_is_installed_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["pytest11"]

    assert points == {"bsrbench": "bsrbench.harness.pytest_plugin"}
    assert importlib.util.find_spec(points["bsrbench"])
    assert importlib.import_module(points["bsrbench"]).pytest_addoption
