"""GACT's way: groups of 256, any operator, four bits and really no other copy."""

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.group_codes import FOUR_BITS
from bsrbench.methods.parts.quantise import draws
from bsrbench.methods.parts.saved_codes import SavesCodes


def packed_and_back(x, *, stochastic=True):
    words, low, step = FOUR_BITS.pack(x, *draws(x, stochastic=stochastic))
    return FOUR_BITS.unpack(words, low, step), step


@pytest.mark.parametrize(("stochastic", "levels"), [(True, 1.0), (False, 0.5)])
def test_codes_lie_within_a_level_and_take_half_a_byte(stochastic, levels):
    x = torch.randn(33, 256, generator=torch.Generator().manual_seed(0))
    restored, step = packed_and_back(x, stochastic=stochastic)

    assert ((restored - x).abs() <= levels * step * 1.001).all()
    assert FOUR_BITS.pack(x, *draws(x, stochastic=stochastic))[0].nbytes == x.numel() // 2


def test_every_group_has_its_own_range():
    x = torch.randn(2, 256)
    x[1] *= 1000
    restored, _ = packed_and_back(x)

    assert (restored - x)[0].abs().max() < 0.6  # a common range would give steps of about 400


def test_stochastic_codes_are_unbiased():
    torch.manual_seed(0)
    x = torch.randn(4, 64)
    draws = torch.stack([packed_and_back(x)[0] for _ in range(400)])
    step = packed_and_back(x)[1]

    # A rounding error has a standard deviation of at most half a step.
    assert ((draws.mean(0) - x).abs() <= 5 * 0.5 * step / 400**0.5 + 1e-6).all()


def test_weight_gradient_of_a_linear_layer_is_unbiased():
    torch.manual_seed(0)
    layer, plain = nn.Linear(8, 4), nn.Linear(8, 4)
    plain.load_state_dict(layer.state_dict())
    extend(layer, SavesCodes, codes=FOUR_BITS, stochastic=True)
    x = torch.randn(3, 5, 8)
    plain(x).square().sum().backward()
    draws = []
    for _ in range(300):
        layer.zero_grad()
        layer(x).square().sum().backward()
        draws.append(layer.weight.grad.clone())
    # The loss is a square: its own output is saved outside the layer, so it is exact.
    mean, deviation = torch.stack(draws).mean(0), torch.stack(draws).std(0)

    assert deviation.max() > 0
    assert ((mean - plain.weight.grad).abs() <= 5 * deviation / 300**0.5 + 1e-6).all()


def test_packs_what_an_operator_of_no_transformer_saves():
    """Any operator is covered: a product of activations is, and a weight is not."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(32))

        def forward(self, x):
            return (x * x.sin()) * self.weight

    layer = Odd()
    extend(layer, SavesCodes, codes=FOUR_BITS, stochastic=True)
    x = torch.randn(16, 17, 32, requires_grad=True)
    with LiveBytes() as live:
        live.watch([x, *layer.parameters()], Category.INPUTS)
        before = live.now
        output = layer(x)
        held = live.now - before - output.nbytes

    # x (twice, kept once), its sine and their product: 4 bits and 64 bits of range a token.
    assert held == 3 * (x.numel() // 2 + 8 * 16 * 17)


def test_holds_about_an_eighth_of_what_full_holds(make_vit, batch):
    """fp32 to 4 bits is a factor of 8; ranges, row sums and statistics come on top."""
    held = {}
    for name in ("full", "int4"):
        model = methods.load(name).prepare(make_vit(embed_dim=256))
        with LiveBytes() as live:
            live.watch([*model.parameters(), *batch], Category.INPUTS)
            before = live.now
            output = model(batch[0])
            held[name] = live.now - before
        del output

    assert 0.125 < held["int4"] / held["full"] < 0.16


def test_other_widths_are_refused():
    with pytest.raises(BadInput, match="bits 8 is not implemented"):
        methods.load("int4", bits=8)
