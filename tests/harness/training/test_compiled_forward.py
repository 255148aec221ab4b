"""A compiled step: what is read of it, what is not, and that it is never eager in silence."""

import re
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch._dynamo.exc import FailOnRecompileLimitHit

from bsrbench.harness.launch.local_launcher import COMPILED_CODE
from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.profiler.memory_pass import COUNTED, NOT_COUNTED
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.training import compiled_forward
from bsrbench.harness.training.compiled_forward import (
    CompiledForward,
    require_compiles,
    why_not_compiled,
)
from bsrbench.harness.training.job import begin
from bsrbench.harness.trial.record_assembly import make_record
from bsrbench.harness.trial.trial_passes import PROFILE_PASSES
from tests.trial_records import ran_in

TWO = '''
from dataclasses import dataclass
import torch
from torch import nn
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Two(Method):
    """Replaces the model by two layers, with something that cannot be compiled if asked for."""
    breaks: bool = False
    source = "a test"
    exact_forward = False
    kinds = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model):
        layers = nn.Sequential(
            nn.Flatten(), nn.Linear(768, 8), nn.GELU(), nn.Linear(8, 5, bias=False)
        )
        if self.breaks:
            layers.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
        return layers
'''


@pytest.fixture
def two(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(TWO)
    return f"{path}:Two"


@pytest.fixture
def make_two_spec(make_spec, two):
    def make(**changes):
        return make_spec(two, image_size=16, compiled_step=True, **changes)

    return make


def test_a_compiled_step_is_timed_and_allocated_and_says_what_it_lacks(launcher, make_two_spec):
    """Two layers are compiled once; the passes after the first find their code.

    Allocated: batch and labels, weights and momentum, and in the step the output of the first
    layer at least.
    """
    spec = make_two_spec()
    results = {name: launcher.perform(name, spec) for name in ("clock", *PROFILE_PASSES)}
    record, _ = make_record("key", spec, results, ran_in())
    read, weights = record.measurements, 4 * (768 * 8 + 8 + 8 * 5)
    held = 4 * 3 * 16 * 16 * 4 + 4 * 8 + 2 * weights

    assert [(Status.COMPLETED, "")] * 5 == [(r.status, r.reason) for r in results.values()]
    assert read["compile_seconds"] > max(read["step_seconds"])  # which would hold it else
    assert held < read["peak_allocated_bytes"] < held + 2 * weights
    predicted = {"peak_estimated_allocated_bytes"}  # the estimate says why there is none
    assert {NOT_COUNTED} == {record.missing[name].text for name in set(COUNTED) - predicted}
    assert {None} == {read[name] for name in (*COUNTED, "peak_estimated_bytes")}
    assert read["forward_flop"] == 2 * 4 * (768 * 8 + 8 * 5)  # of the uncompiled step
    assert read["residual_bytes"] < 32 * 2**20  # what the compiler left is not in it
    assert results["memory"].readings().notes == results["process"].readings().notes == ()


def test_a_graph_break_is_an_outcome(launcher, make_two_spec):
    result = launcher.perform("memory", make_two_spec(options={"breaks": True}))

    assert result.status == Status.UNSUPPORTED
    assert result.reason.startswith("torch.compile cannot compile the step as one graph: ")
    assert "\n" not in result.reason


def test_compiled_code_is_kept_apart_for_each_row_and_goes_with_the_launcher(
    launcher, make_two_spec, monkeypatch
):
    seen = []

    def call(_, kind, inside, *__):
        seen.append(inside.settings)
        return kind(Status.CRASHED, "not run")

    monkeypatch.setattr(launcher, "_call", call)
    for spec in (make_two_spec(), make_two_spec(batch=2), make_two_spec().uncompiled()):
        launcher.perform("memory", spec)

    assert seen[0][COMPILED_CODE] != seen[1][COMPILED_CODE]
    assert seen[2] == {}


@dataclass(frozen=True)
class Untested(Method):
    """Says nothing of being compiled."""

    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return model


def test_a_method_that_does_not_declare_it_is_not_compiled(make_spec):
    with pytest.raises(Unsupported, match="does not declare 'compiles'"):
        begin(make_spec("untested", compiled_step=True), lambda _: Untested())
    with pytest.raises(Unsupported, match="leave compiled_step out"):
        require_compiles(Untested())


def test_a_missing_compiler_is_said(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))

    with pytest.raises(Unsupported, match=r"no working C\+\+ compiler: install g\+\+"):
        CompiledForward(nn.Linear(2, 2))


def test_a_step_that_torch_runs_eagerly_in_silence_is_refused(monkeypatch):
    monkeypatch.setattr(compiled_forward, "_require_compiler", lambda _: None)
    forward = CompiledForward(nn.Linear(2, 2))

    with (
        torch.compiler.set_stance("force_eager"),
        pytest.raises(Unsupported, match="compiled nothing and ran the step eagerly"),
    ):
        forward(torch.ones(1, 2))


def test_the_recompilation_limit_is_an_error(monkeypatch):
    """A compiler that compiles nothing shows it as well: every size is a shape of its own."""
    monkeypatch.setattr(compiled_forward, "_require_compiler", lambda _: None)
    monkeypatch.setattr(CompiledForward, "_inductor", _as_it_is)
    forward = CompiledForward(nn.Linear(2, 2))

    with torch._dynamo.config.patch(recompile_limit=2):
        for size in (2, 3):
            forward(torch.ones(size, 2))
        with pytest.raises(FailOnRecompileLimitHit) as caught:
            forward(torch.ones(4, 2))

    # torch 2.14's words, and 2.9's.
    words = "step as one graph: (Dynamo recompile limit exceeded|recompile_limit reached)"
    assert re.search(words, why_not_compiled(caught.value))


def _as_it_is(self, graph, _):
    self._graphs += 1
    return graph


def test_other_errors_are_not_the_compiler_s():
    assert why_not_compiled(ValueError("else")) is None
