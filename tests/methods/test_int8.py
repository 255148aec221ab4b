"""8-bit codes: unbiased, exact in shape, and really the only copy."""

import pytest
import torch
from torch import nn

import methods
from harness.errors import BadInput
from harness.meters.counted import Category, LiveBytes
from harness.profiler import memory_pass
from methods.parts.extend import extend
from methods.parts.quantise import quantise, restore

from methods.int8 import SavesInput  # isort: skip - the part of it that is tested alone


@pytest.mark.parametrize("shape", [(4, 17, 32), (4, 8, 17, 4)])
@pytest.mark.parametrize("stochastic", [True, False])
def test_codes_lie_within_one_level(shape, stochastic):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kept = quantise(x, groups=8, stochastic=stochastic)
    worst = kept.step.max() * (1.0 if stochastic else 0.5)

    assert kept.codes.dtype == torch.uint8
    assert restore(kept).shape == x.shape
    assert (restore(kept) - x).abs().max() <= worst * 1.001


def test_every_group_of_channels_has_its_own_range():
    x = torch.randn(4, 17, 32)
    x[..., 8:] *= 1000  # three of four groups
    error = (restore(quantise(x, groups=4, stochastic=False)) - x)[..., :8].abs().max()

    assert error < 0.02  # a common range would give steps of about 25


def test_stochastic_codes_are_unbiased():
    torch.manual_seed(0)
    x = torch.randn(1, 50, 8)
    draws = torch.stack([restore(quantise(x, 1, stochastic=True)) for _ in range(400)])
    off = (draws.mean(0) - x).abs()
    # A level's rounding error has a standard deviation of at most half a step.
    bound = 5 * 0.5 * quantise(x, 1, stochastic=True).step.max() / 400**0.5

    assert off.max() <= bound


def test_a_constant_tensor_survives():
    x = torch.full((2, 3, 8), 1.5)

    assert torch.equal(x, restore(quantise(x, 2, stochastic=True)))


def test_weight_gradient_of_a_linear_layer_is_unbiased():
    torch.manual_seed(0)
    layer, plain = nn.Linear(8, 4), nn.Linear(8, 4)
    plain.load_state_dict(layer.state_dict())
    extend(layer, SavesInput, groups=2, stochastic=True)
    x = torch.randn(3, 5, 8)
    plain(x).square().sum().backward()
    draws = []
    for _ in range(300):
        layer.zero_grad()
        layer(x).square().sum().backward()
        draws.append(layer.weight.grad.clone())
    mean, deviation = torch.stack(draws).mean(0), torch.stack(draws).std(0)

    assert torch.equal(plain.bias.grad, layer.bias.grad)
    assert ((mean - plain.weight.grad).abs() <= 5 * deviation / 300**0.5 + 1e-6).all()


def test_holds_about_a_quarter_of_what_full_holds(make_vit, batch):
    """fp32 to 8 bits is a factor of 4; row sums, statistics and ranges come on top."""
    held = {}
    for name in ("full", "int8"):
        model = methods.load(name).prepare(make_vit(embed_dim=64))
        with LiveBytes() as live:
            live.watch([*model.parameters(), *batch], Category.INPUTS)
            before = live.now
            output = model(batch[0])
            held[name] = live.now - before
        del output

    assert 0.25 < held["int8"] / held["full"] < 0.36


def test_codes_are_freed_as_backward_reads_them(make_vit, batch):
    """When the gradient leaves block 1, at most two blocks' codes of twelve are left."""
    model = methods.load("int8").prepare(make_vit(embed_dim=64))
    seen = {}
    with LiveBytes() as live:
        live.watch([*model.parameters(), *batch], Category.INPUTS)
        before = live.now

        def note(*_):
            gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
            seen["left"] = live.now - before - gradients

        model.blocks[1].register_forward_hook(lambda *call: call[-1].register_hook(note) and None)
        loss = model(batch[0]).sum()
        seen["all"] = live.now - before
        loss.backward()

    assert seen["left"] < 0.35 * seen["all"]


def test_the_peak_is_the_same_step_after_step(make_spec):
    spec = make_spec("int8", model="deit_tiny_patch16_224", optimizer="adamw")

    assert memory_pass(spec, methods.load).notes == []


def test_a_frozen_linear_layer_stores_nothing():
    layer = nn.Linear(8, 4).requires_grad_(False)
    extend(layer, SavesInput, groups=1, stochastic=True)
    x = torch.randn(2, 3, 8, requires_grad=True)

    assert "LinearOfCodes" not in type(layer(x).grad_fn).__name__


def test_other_widths_are_refused():
    with pytest.raises(BadInput, match="bits 4 is not implemented"):
        methods.load("int8", bits=4)
