"""Each method on a model with experts."""

import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.conformance.subject import trained
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import ExpertMlp
from bsrbench.harness.model.task_heads import turns
from bsrbench.methods import load


def loss_over_tasks(model, images):
    model.zero_grad()
    for task in turns(model):
        labels = torch.arange(len(images)) % (5, 3)[task]
        cross_entropy(model(images), labels).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [methods.usable(name) for name in methods.names()])
def test_every_method_trains_with_experts_or_says_why_not(name, make_moe, images):
    model = make_moe()
    try:
        prepared = load(name).prepare(model)
    except Unsupported as reason:
        # The model has a head for each of its tasks, too.
        assert re.search("expert|logits of one Linear", str(reason))  # noqa: PT017 - either is right
        return
    found = loss_over_tasks(prepared, images)

    assert len(found) == len(trained(prepared))


def test_pruning_image_by_image_is_refused(make_moe):
    with pytest.raises(Unsupported, match="hidden activations of experts are sorted by expert"):
        load("sparse").prepare(make_moe())


def test_adapters_inside_experts_are_refused(make_moe):
    with pytest.raises(Unsupported, match=r"fc1 of blocks \[3, 7, 11\] are layers of experts"):
        load("lora", targets=("qkv", "fc1")).prepare(make_moe())


def test_bsr_trains_its_blocks_with_gates_and_experts_whole(make_moe):
    model = load("bsr").prepare(make_moe())
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("blocks.3.", "blocks.7.", "blocks.11.", "norm.", "head."))
    }

    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected


def with_act(model, form):
    """Give the experts of a model another form of GELU."""
    for part in model.modules():
        if isinstance(part, ExpertMlp):
            part.act = torch.nn.GELU(approximate=form)
    return model


@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("rows", [1 << 20, 7], ids=["whole", "in pieces"])
def test_keeping_little_changes_no_gradient(rows, form, make_moe, images, monkeypatch):
    """Pieces of seven rows begin and end within experts."""
    monkeypatch.setattr("bsrbench.methods.parts.packed_experts.PRODUCT_BYTES", 4 * 128 * rows)
    little = load("bsr").prepare(with_act(make_moe(torch.float64), form))
    monkeypatch.setattr("bsrbench.methods.bsr.recompute_gelu", lambda *_: None)
    plain = load("bsr").prepare(with_act(make_moe(torch.float64), form))
    found, expected = (loss_over_tasks(m, images.double()) for m in (little, plain))

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_8_bits_stay_within_the_declared_error(make_moe, images):
    exact = loss_over_tasks(make_moe(), images)
    packed = loss_over_tasks(load("int8").prepare(make_moe()), images)
    apart = sum(float((packed[n] - exact[n]).square().sum()) for n in exact)
    size = sum(float(g.square().sum()) for g in exact.values())

    assert 0 < (apart / size) ** 0.5 <= load("int8").gradient_error


def test_a_mixture_packs_its_input_once_for_gates_and_experts(make_moe):
    model = load("int8").prepare(make_moe())
    mixtures = [part for part in model.modules() if isinstance(part, ExpertMlp)]
    tokens = torch.randn(2, 17, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        mixtures[0](tokens)
    words = {t.untyped_storage().data_ptr(): t.numel() for t in kept if t.dtype == torch.int32}

    # 34 tokens of 32 numbers, and 68 rows of 128, four to a word.
    assert sorted(words.values()) == [34 * 32 // 4, 68 * 128 // 4]
