"""Memory that somebody keeps from step to step, wherever it lies, is in every number of bytes."""

import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance.promises import holds_less_than_full_fine_tuning
from bsrbench.harness.conformance.subject import BrokenPromise, Subject
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.predict.trial_costs import step_costs
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.memory_pass import allocated_pass, memory_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.training.kept_storages import (
    tensors_in,
    walk,
)
from bsrbench.methods.parts.extend_module import extend

MIB = 2**20
MANY = 50 * MIB
SCALARS_BYTES = 1024  # that autograd and the profiler's marks make


def many():
    return torch.zeros(MANY, dtype=torch.uint8)


CACHE = {}
ELSEWHERE = "bsrbench_tests_elsewhere"


@lru_cache
def cached(size):
    return torch.zeros(size, dtype=torch.uint8)


class Remembers(nn.Module):
    """A block that holds on to something else after each step, or from the first on."""

    def forward(self, x):
        if not self.anew and getattr(self, "memory", None) is not None:
            return super().forward(x)
        self.memory = None
        self.memory = torch.zeros(MANY, dtype=torch.uint8, device=x.device)
        return super().forward(x)


class KeepsGraph(nn.Module):
    """A block that keeps a number whose graph holds many others, which Python does not know."""

    def forward(self, x):
        self.memory = None
        wide = torch.ones(MANY // 8, device=x.device, requires_grad=True)
        self.memory = (wide * 2).exp().sum()  # exp keeps what it made, the product 2 alone
        return super().forward(x)


def of_a_block(behaviour, **attributes):
    def keep(model, _):
        extend(model.blocks[1], behaviour, **attributes)

    return keep


def in_a_closure(model, _):
    held = many()
    model.blocks[0].register_forward_hook(lambda *_: held.numel() and None)


def read_by_a_closure(model, _):
    held = torch.zeros(MANY // 4)
    model.blocks[0].register_forward_hook(lambda _, __, made: made + held[0])


def in_a_module_s_cache(_, __):
    CACHE.setdefault("found", [many()])


def in_another_module_s_cache(_, __):
    sys.modules[ELSEWHERE] = ModuleType(ELSEWHERE)
    sys.modules[ELSEWHERE].STORE = {"found": [many()]}


def in_a_cached_function(_, __):
    cached(MANY)


def in_the_method(_, method):
    object.__setattr__(method, "memory", many())


def in_a_module(model, _):
    model.blocks[2].mlp.memory = many()


def in_containers(model, _):
    model.head.memory = {"deep": [(1, {"deeper": many()})]}


def beside_weights(model, _):
    model.memory = [list(model.parameters()), model.head.weight.detach(), many()[: MANY // 2]]


# What keeps 50 MiB, and whether it does so before the first step.
WAYS = {
    "an attribute of the method": in_the_method,
    "an attribute of a module": in_a_module,
    "a dictionary in a list in a dictionary": in_containers,
    "a closure": in_a_closure,
    "a closure that is read": read_by_a_closure,
    "a module's cache": in_a_module_s_cache,
    "a cached function": in_a_cached_function,
    "another module's cache": in_another_module_s_cache,
    "a view beside the weights themselves": beside_weights,
    "an attribute from the first step on": of_a_block(Remembers, anew=False),
    "an attribute that each step replaces": of_a_block(Remembers, anew=True),
    "an attribute from the first step's end on": lambda *_: None,  # see step_done
    "autograd alone": of_a_block(KeepsGraph),
}


READ = {"a closure that is read", "autograd alone"}  # reading makes more tensors
WORKLOAD = Workload(model="test_vit", image_size=64, batch=4, classes=5)


@dataclass(frozen=True)
class Keeps(Method):
    """Full fine-tuning that keeps 50 MiB in one of many ways."""

    way: str = ""

    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False

    def prepare(self, model):
        if self.way:
            WAYS[self.way](model, self)
        return model

    def step_done(self):
        if self.way.endswith("end on") and not hasattr(self, "memory"):
            in_the_method(None, self)


def loads(way):
    return lambda *_, **__: Keeps(way)


@pytest.fixture(autouse=True)
def _empty_caches():
    yield
    CACHE.clear()
    cached.cache_clear()


@pytest.fixture(scope="module")
def plain():
    """Return what full fine-tuning needs, found out once."""
    spec = TrialSpec(method="full", workload=WORKLOAD, profile=Profile(rounds=1))
    return spec, memory_pass(spec, loads("")).measurements


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_is_counted_allocated_and_estimated(way, plain):
    """There are 50 MiB more in every number of bytes, and they have a part of their own."""
    spec, without = plain
    reading, predicted = memory_pass(spec, loads(way)), predict(spec, loads(way)).measurements
    found, rest = reading.measurements, reading.detail.allocated.unexplained_bytes
    parts = {name: size for name, size in found.items() if name.endswith("_at_peak_bytes")}

    assert reading.notes == ()
    assert found["kept_at_peak_bytes"] == MANY
    assert found["peak_counted_bytes"] == sum(parts.values())
    more = found["peak_counted_bytes"] - without["peak_counted_bytes"]
    assert more == MANY or (way in READ and more > MANY)
    assert abs(rest) <= SCALARS_BYTES
    assert found["peak_allocated_bytes"] >= found["peak_counted_bytes"]
    assert predicted["peak_estimated_bytes"] == found["peak_counted_bytes"]
    assert {name: predicted[name] for name in parts} == parts
    (cost,) = step_costs([spec], loads(way))
    assert cost.peak_bytes == found["peak_counted_bytes"]
    assert (
        abs(
            allocated_pass(spec, loads(way)).measurements["peak_allocated_bytes"]
            - found["peak_allocated_bytes"]
        )
        <= SCALARS_BYTES
    )


def test_the_module_that_keeps_it_is_named(plain):
    spec, _ = plain
    job, batch = job_and_batch(spec, loads("an attribute of a module"))
    step = counted_step(job, batch)

    assert step.modules["blocks.2.mlp"]["kept"] == MANY


@dataclass(frozen=True)
class TrainsTheHead(Keeps):
    """Trains the head alone, which holds less than full fine-tuning, and keeps 50 MiB."""

    saves_over_full = True

    def prepare(self, model):
        model.requires_grad_(requires_grad=False)
        model.head.requires_grad_()
        return super().prepare(model)


@pytest.mark.parametrize("way", ["", *WAYS])
def test_the_promise_to_hold_less_than_full_fine_tuning_counts_it(way):
    """The tiny model holds far less in all."""
    own = {"mine": TrainsTheHead(way), "full": methods.load("full")}
    subject = Subject("mine", lambda _: TrainsTheHead, own.get)

    if way:
        with pytest.raises(BrokenPromise, match="saves_over_full is True"):
            holds_less_than_full_fine_tuning(subject)
    else:
        holds_less_than_full_fine_tuning(subject)


def test_a_walk_goes_through_whatever_python_holds_things_in(monkeypatch):
    """Each way leads to one tensor of another length."""

    class Holder:
        shared = torch.zeros(2)
        __slots__ = ("own",)

        def method(self):
            return self.own

    holder = Holder()
    holder.own = torch.zeros(3)
    enclosed, default, late, hook = (torch.zeros(length) for length in (4, 5, 6, 12))

    def function(x=default):
        return x, enclosed, (lambda: CACHE)

    def generator(held=late):
        yield held

    CACHE["deep"] = (torch.zeros(7), {8: [torch.zeros(8)]})
    monkeypatch.setitem(sys.modules, ELSEWHERE, ModuleType(ELSEWHERE))
    sys.modules[ELSEWHERE].STORE = [torch.zeros(9)]
    hooked = nn.Linear(1, 10, bias=False)
    hooked.weight.grad = torch.zeros(10, 1)
    hooked.register_forward_hook(partial(function, torch.zeros(11)))
    hooked.weight.register_hook(lambda gradient, held=hook: gradient + held)
    roots = [holder.method, generator(), hooked, SimpleNamespace(own=torch.zeros(13)), elsewhere]

    lengths = sorted(len(tensor) for tensor in tensors_in(walk(*roots)))

    assert lengths == [*range(2, 10), 10, 10, 11, 12, 13]


def elsewhere():
    """Name what another module holds; nobody calls it."""
    import bsrbench_tests_elsewhere  # noqa: PLC0415 - it is made by a test

    return bsrbench_tests_elsewhere.STORE
