"""The pytest plugin in a repository of somebody else's, which has a method file and tests."""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput, Unreadable
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.method import Unsupported
from bsrbench.harness.pytest_plugin import summary, test_conditions
from bsrbench.harness.pytest_plugin.counters import Counters, NotMeasured
from bsrbench.harness.pytest_plugin.result import Result
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.reports.compare import gate

ROOT = Path(__file__).resolve().parents[3]
MINE = '''
from __future__ import annotations  # which makes annotations of options text

import os
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness.method import Kind, Method


@dataclass(frozen=True)
class Mine(Method):
    """Trains the head, and the final norm if asked to."""

    norm: bool = False
    log: str = ""
    word: str = ""
    broken: bool = False
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.broken:
            raise RuntimeError("broken on purpose")
        model.requires_grad_(False)
        for part in [model.head, *([model.norm] if self.norm else [])]:
            part.requires_grad_(True)
        return model

    def step_done(self):
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {self.word}\\n")
'''
TINY = {"model": "test_vit", "image_size": 64, "batch": 4, "classes": 5, "threads": 1, "rounds": 3}
TESTS = f"""
import os
from pathlib import Path

import pytest
import torch

TINY = {TINY!r}


def test_mine(bsrbench):
    options = {{"norm": True}}
    mine = bsrbench("./mine.py:Mine", options=options, baseline="full", **TINY)

    # test_vit is 64 wide: a head of 64 x 5 weights and 5 biases, a norm of 64 and 64.
    assert mine.value("trained_parameters") == 325 + 128
    assert len(mine.measurements["step_seconds"]) == len(mine.step_ratios()) == 3
    assert mine.ratio("peak_counted_bytes") < 1


def test_each_step_follows_one_of_the_baseline(bsrbench, tmp_path):
    log = str(tmp_path / "log")
    theirs = {{"method": "./mine.py:Mine", "options": {{"log": log, "word": "theirs"}}}}
    bsrbench("./mine.py:Mine", options={{"log": log, "word": "ours"}}, baseline=theirs, **TINY)
    lines = [line.split() for line in Path(log).read_text().splitlines()]
    words = [word for pid, word in lines if pid == str(os.getpid())]

    assert words[-8:] == ["theirs", "ours"] * 4  # a round of warm-up, three timed


def test_torch_is_left_as_it_was(bsrbench):
    torch.set_num_threads(2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    bsrbench("head", **TINY)

    assert torch.get_num_threads() == 2
    assert torch.equal(expected, torch.rand(3))


def test_unsupported_may_be_expected(bsrbench):
    from bsrbench.harness.method import Unsupported

    with pytest.raises(Unsupported):
        bsrbench("bsr", **TINY)


def test_wrong_method(bsrbench):
    bsrbench("bsrr", **TINY)


def test_wrong_model(bsrbench):
    bsrbench("head", **TINY | {{"model": "test_vitt"}})


def test_wrong_option(bsrbench):
    bsrbench("./mine.py:Mine", options={{"nrom": True}}, **TINY)


def test_wrong_batch(bsrbench):
    bsrbench("head", **TINY | {{"batch": 0}})


def test_wrong_rounds(bsrbench):
    bsrbench("head", **TINY | {{"rounds": 0}})


def test_wrong_baseline(bsrbench):
    bsrbench("head", baseline={{"method": "full", "batch": 8}}, **TINY)


def test_wrong_unsupported(bsrbench):
    bsrbench("bsr", **TINY)


def test_wrong_crash(bsrbench):
    bsrbench("./mine.py:Mine", options={{"broken": True}}, **TINY)


def test_wrong_second_call(bsrbench):
    bsrbench("head", **TINY)
    bsrbench("head", **TINY)
"""
FAILURES = {
    "method": "BadInput: no method 'bsrr'; did you mean 'bsr'?",
    "model": "BadInput: no timm model 'test_vitt'; did you mean 'test_vit'?",
    "option": "BadInput: no option of './mine.py:Mine' named 'nrom'; did you mean 'norm'?",
    "batch": "BadInput: bsrbench: batch = 0: ",
    "rounds": "BadInput: bsrbench: rounds = 0: expected a number from 1 on",
    "baseline": "BadInput: no key of baseline 'batch'",
    "unsupported": "Unsupported: bsr: ",
    "crash": "crashed (memory pass: RuntimeError: broken on purpose (at mine.py:",
    "second_call": "BadInput: bsrbench was called before in this test",
}
ONE_TEST = f"""
def test_head(bsrbench):
    bsrbench("head", **{TINY!r})
"""
PLAIN_TEST = """
def test_nothing():
    pass
"""
SHOW_IMPORTS = """
import sys


def pytest_unconfigure():
    heavy = {"torch", "timm", "numpy", "pydantic", "rich", "scipy", "pytest_benchmark"}
    ours = {"bsrbench.methods", "bsrbench.reports"}
    foreign = {"harness", "methods", "reports", "suites"}
    print("imported:", sorted((heavy | ours | foreign) & set(sys.modules)))
"""
FAILED = "FAILED --bsrbench-fail-if: "
DISABLED = "benchmarks are disabled here (--benchmark-disable, or pytest-xdist)"
NOT_ASKED = "the fixture bsrbench does not measure it; 'bsrbench profile' may"
BENCHMARK = ("-p", "pytest_benchmark.plugin")


def run_pytest(folder, *arguments, **files):
    """Run pytest in a repository of these files, our plugin loaded and no other unasked."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # pytest's settings are for the run this test is part of.
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    settings |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    ours = ("-p", "bsrbench.harness.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *ours, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=settings,
    )


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
    measured = TrialRecord.model_validate_json(printed).measurements

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
    held = "ratio(peak_counted_bytes) > 0.9999, for it is 1.0"
    assert [line for line in failed if line not in alone] == [FAILED + same + held]


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
        "value(trained_parameters) >= 325, for it is 325",
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
    assert f"{bound} bounds nothing" in done.stderr


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


def test_without_pytest_benchmark_only_tests_that_need_it_fail(tmp_path):
    """And nothing is imported by the plugin's being there."""
    done = run_pytest(tmp_path, test_head=ONE_TEST, test_nothing=PLAIN_TEST, conftest=SHOW_IMPORTS)

    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "the fixture bsrbench times steps by pytest-benchmark, which is not" in done.stdout
    assert "imported: []" in done.stdout


def test_the_plugin_is_installed_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["pytest11"]

    assert points == {"bsrbench": "bsrbench.harness.pytest_plugin"}
    assert importlib.util.find_spec(points["bsrbench"])
    assert importlib.import_module(points["bsrbench"]).pytest_addoption


@pytest.fixture
def result(make_spec):
    """Return a result with pairs of steps whose medians mislead."""
    theirs = {"step_seconds": [1.0, 1.0, 5.0], "step_flop": 10, "workspace_bytes": 0}
    ours = {"step_seconds": [2.0, 3.0, 10.0], "step_flop": 5, "workspace_bytes": 7}
    full = Result(make_spec("full"), theirs)
    why = {"peak_counted_bytes": "not seen"}
    return Result(make_spec("head"), ours, missing=why, baseline=full)


def test_ratios_of_times_are_taken_pair_by_pair(result):
    assert result.step_ratios() == [2.0, 3.0, 2.0]
    assert result.ratio("step_seconds") == 2.0  # that of the medians is 3.0 / 1.0
    assert (result.ratio("step_flop"), result.difference("step_flop")) == (0.5, -5)


def test_a_number_that_is_not_there_is_an_error_with_its_reason(result):
    with pytest.raises(Unreadable, match="no peak_counted_bytes: not seen"):
        result.value("peak_counted_bytes")
    with pytest.raises(Unreadable, match="the baseline's workspace_bytes is 0"):
        result.ratio("workspace_bytes")
    with pytest.raises(BadInput, match="did you mean 'step_flop'"):
        result.value("step_flops")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("ratio(step_flop) > 0.5", []),
        ("ratio(step_flop) >= 0.5", ["ratio(step_flop) >= 0.5, for it is 0.5"]),
        ("difference(step_flop) < 0", ["difference(step_flop) < 0, for it is -5"]),
        ("baseline(step_flop) > 9", ["baseline(step_flop) > 9, for it is 10"]),
        ("value(step_seconds) > 2", ["value(step_seconds) > 2, for it is 3.0"]),
    ],
)
def test_a_gate_fails_where_its_condition_holds(condition, said, result):
    assert test_conditions.failures([gate.parse(condition)], result) == said


class Counting(InlineLauncher):
    """Keeps which passes it was asked for."""

    def __init__(self):
        super().__init__(methods.load)
        self.asked = []

    def perform(self, pass_name, spec, **keeping):
        self.asked.append(pass_name)
        return super().perform(pass_name, spec, **keeping)


def test_a_trial_is_counted_once_until_a_setting_of_ours_changes(make_spec, monkeypatch):
    launcher = Counting()
    counters = Counters(launcher)
    first, second = (counters.read(make_spec("head")) for _ in range(2))
    monkeypatch.setenv("BSRBENCH_KERNELS", "auto")
    counters.read(make_spec("head"))

    assert first == second
    assert launcher.asked == ["memory", "flops"] * 2


def test_a_pass_that_did_not_complete_says_which_and_how(make_spec, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    counters = Counters(InlineLauncher(methods.load))
    broken = make_spec(f"{file}:Mine", options={"broken": True})

    with pytest.raises(NotMeasured, match=r"crashed \(memory pass: RuntimeError: broken"):
        counters.read(broken)
    with pytest.raises(Unsupported, match=r"bsr: .*blocks"):
        counters.read(make_spec("bsr"))
