"""Methods that change what trains: resumed in the middle of a cycle, and measured over a cycle."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.conformance.checks import CHECKS, examined
from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.predict.paper_convention import Undefined
from bsrbench.harness.predict.step_cost import step_cost
from bsrbench.harness.profiler.clock_visits import PHASES, STEPS, ClockVisits
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training.current_optimizers import each_state
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import Checkpoint
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data
from tests.harness.training.test_resume import Killed, KilledAfter

STATES = 6
SETTINGS = [
    {"optimizer": "adamw"},
    {"optimizer": "sgd"},
    {"optimizer": "apollo-mini"},
    {"optimizer": "adamw", "optimizer_in_backward": True},
    {"optimizer": "sgd", "precision": "fp16"},
]


@pytest.mark.parametrize("stop", [2, 3])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("method", ["badam", "lisa"])
def test_goes_on_in_the_middle_of_a_cycle_bit_for_bit(method, settings, stop, make_spec, tmp_path):
    """What trains changes every three steps; the run is killed within a state, and at a change."""
    training = Training(steps=7, learning_rate=1e-3)
    spec = make_spec(method, options={"steps": 3}, training=training, **settings)
    images = (data.load("noise", 5, 0),)
    whole, killed, again = (begin(spec, methods.load) for _ in range(3))
    expected = train(whole, images, training)
    with pytest.raises(Killed):
        train(killed, images, training, KilledAfter(tmp_path / "run.pt", stop))
    found = train(again, images, training, Checkpoint(tmp_path / "run.pt", 1e9))

    assert found.losses == expected.losses
    assert whole.current.state == again.current.state
    for one, other in zip(whole.held(), again.held(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["mezo", "bsr+mezo", "badam+mezo"])
def test_estimates_go_on_bit_for_bit(method, make_six_spec, tmp_path):
    training = Training(steps=5, learning_rate=1e-4)
    spec = make_six_spec(method, training=training)
    images = (data.load("noise", 5, 0),)
    whole, killed, again = (begin(spec, methods.load) for _ in range(3))
    expected = train(whole, images, training)
    with pytest.raises(Killed):
        train(killed, images, training, KilledAfter(tmp_path / "run.pt", 2))
    found = train(again, images, training, Checkpoint(tmp_path / "run.pt", 1e9))

    assert found.losses == expected.losses
    assert len(set(found.losses)) == 5
    for one, other in zip(whole.held(), again.held(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["badam", "lisa"])
def test_an_optimizer_in_the_backward_pass_gives_the_same_bits(method, make_spec):
    training = Training(steps=5, learning_rate=1e-3)
    weights = []
    for inside in (False, True):
        spec = make_spec(
            method,
            options={"steps": 2},
            training=training,
            optimizer="adamw",
            optimizer_in_backward=inside,
        )
        job = begin(spec, methods.load)
        train(job, (data.load("noise", 5, 0),), training)
        weights.append([p.detach().clone() for p in job.model.parameters()])

    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def in_every_state(spec):
    """Return the steady counted step of each state, of a job that has been in no other one."""
    steps = []
    for number in range(STATES):
        job, batch = job_and_batch(spec, methods.load)
        job.current.enter(job.current.states[number])
        counted_step(job, batch)
        steps.append(counted_step(job, batch))
    return steps


@pytest.mark.parametrize("method", ["badam", "lisa"])
def test_memory_is_the_largest_peak_and_the_mean_beside_it(method, make_spec):
    spec = make_spec(method, optimizer="adamw")
    each = in_every_state(spec)
    read, predicted = memory_pass(spec, methods.load), predict(spec, methods.load)

    largest = max(each, key=lambda step: step.peak)
    assert read.measurements["peak_counted_bytes"] == largest.peak
    assert read.measurements["measured_states"] == STATES
    assert read.measurements["mean_peak_bytes"] == round(fmean(step.peak for step in each))
    assert len({step.peak for step in each}) > 1
    assert (
        sum(value for name, value in read.measurements.items() if name.endswith("_at_peak_bytes"))
        == largest.peak
    )
    assert predicted.measurements["peak_estimated_bytes"] == largest.peak
    for name in ("mean_peak_bytes", "measured_states"):
        assert predicted.measurements[name] == read.measurements[name]
    assert step_cost(spec, methods.load).peak_bytes == largest.peak
    assert read.measurements["peak_allocated_bytes"] >= largest.peak


def test_flops_are_the_mean_over_the_states(make_spec):
    spec = make_spec("badam")
    read, predicted = flop_pass(spec, methods.load), predict(spec, methods.load)
    forward = read.measurements["forward_flop"]
    full = flop_pass(make_spec("full"), methods.load).measurements

    assert forward == full["forward_flop"]
    assert forward < read.measurements["step_flop"] < full["step_flop"]
    for name in ("forward_flop", "step_flop", "trained_parameters", "forward_macs"):
        assert read.measurements[name] == predicted.measurements[name]
    assert read.measurements["step_flop"] == step_cost(spec, methods.load).step_flop


@pytest.mark.parametrize("kind", [STEPS, PHASES])
def test_a_visit_has_a_step_in_each_state(kind, make_spec):
    job, batch = job_and_batch(make_spec("badam"), methods.load)
    visits = ClockVisits(job, batch, Profile(rounds=1, generations=1, steps=1, warmup_steps=1))
    had = []
    job.model.register_forward_hook(lambda *_: had.append(job.current.state))
    visits.visit(kind)
    counts = Counter(had)

    assert visits.steps % STATES == 0
    assert set(counts) == set(job.current.states)
    assert len(set(counts.values())) == 1


def test_a_clock_pass_makes_the_optimizer_of_a_state_once(make_spec):
    job, batch = job_and_batch(make_spec("badam", optimizer="adamw"), methods.load)
    visits = ClockVisits(job, batch, Profile(rounds=1, generations=1, steps=1, warmup_steps=1))
    before = {}
    for state in job.current.in_each_state():
        before[state] = job.optimizers
    visits.visit(STEPS)

    for state in job.current.in_each_state():
        assert job.optimizers is before[state]
        assert all(optimizer.state for optimizer in job.optimizers)


def test_a_loop_over_states_that_ends_early_leaves_the_model_as_it_was():
    method, model = methods.load("badam"), tiny_model()
    method.prepare(model)
    before = [parameter.requires_grad for parameter in model.parameters()]
    with contextlib.suppress(Undefined):
        for state in each_state(method, model):
            raise Undefined(f"no rule in state {state}")

    assert [parameter.requires_grad for parameter in model.parameters()] == before


@pytest.mark.parametrize("optimizer", ["apollo-mini", "galore"])
def test_random_numbers_of_an_optimizer_do_not_depend_on_the_state(optimizer, make_spec):
    """The convention has no value for int8 and raises; the prediction goes on nevertheless."""
    spec = make_spec("badam+int8", optimizer=optimizer)
    read, predicted = memory_pass(spec, methods.load), predict(spec, methods.load)

    found = predicted.measurements["peak_estimated_bytes"]
    assert found == read.measurements["peak_counted_bytes"]


def test_what_has_no_states_has_no_metric_of_them(make_spec):
    read = memory_pass(make_spec("full"), methods.load)

    assert not {"mean_peak_bytes", "measured_states"} & set(read.measurements)


@dataclass(frozen=True)
class Forgetful(Method):
    """A method with states that breaks promises. Stores. Approximates. Does not save."""

    fault: ClassVar[str] = ""
    count: ClassVar[int] = 0
    source = "bsrbench"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        model.requires_grad_(False)
        head(model).requires_grad_(True)
        for block in blocks(model):
            block.requires_grad_(True)
        return model

    def states(self, model):
        return tuple((n,) for n in range(len(blocks(model)) - (self.fault == "leaves out")))

    def state_at(self, step, seed, model):
        type(self).count += 1
        step = self.count if self.fault == "counts calls" else step + seed
        return (step % len(blocks(model)),) if self.fault != "stays" else (0,)

    def enter(self, model, state):
        for number, block in enumerate(blocks(model)):
            if self.fault != "never freezes" or number in state:
                block.requires_grad_(number in state)
        if self.fault == "thaws":
            model.norm.requires_grad_(True)

    def cycle_steps(self, model):
        return len(blocks(model))


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("", "states_train_what_prepare_leaves", ""),
        ("", "state_of_a_step_depends_on_step_and_seed_only", ""),
        ("leaves out", "states_train_what_prepare_leaves", "these train in no state"),
        ("never freezes", "states_train_what_prepare_leaves", "every state trains the same"),
        ("thaws", "states_train_what_prepare_leaves", "but prepare() has frozen them"),
        ("counts calls", "state_of_a_step_depends_on_step_and_seed_only", "different states for"),
        ("stays", "state_of_a_step_depends_on_step_and_seed_only", "the blocks [0] train, but"),
    ],
)
def test_the_checks_of_states_find_what_is_wrong(fault, check, said, subject_of, monkeypatch):
    monkeypatch.setattr(Forgetful, "fault", fault)
    (chosen,) = (one for one in CHECKS if one.name() == check)
    broken = examined(chosen, subject_of(Forgetful)).broken

    assert said in broken
    assert bool(broken) == bool(fault)
