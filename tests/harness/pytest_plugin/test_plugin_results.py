"""What the fixture returns: ratios, conditions, and passes that did not complete."""

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput, Unreadable
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.method import Unsupported
from bsrbench.harness.pytest_plugin import test_conditions
from bsrbench.harness.pytest_plugin.counters import Counters, NotMeasured
from bsrbench.harness.pytest_plugin.result import Result
from bsrbench.reports.compare import gate
from tests.harness.pytest_plugin.authors_repository import MINE


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
        ("ratio(step_flop) >= 0.5", ["ratio(step_flop) >= 0.5: the value is 0.5"]),
        ("difference(step_flop) < 0", ["difference(step_flop) < 0: the value is -5"]),
        ("baseline(step_flop) > 9", ["baseline(step_flop) > 9: the value is 10"]),
        ("value(step_seconds) > 2", ["value(step_seconds) > 2: the value is 3.0"]),
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
