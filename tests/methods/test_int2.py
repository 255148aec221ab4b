"""GACT's two bits: four levels a group, sixteen numbers a word."""

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.methods.parts.group_codes import TWO_BITS
from bsrbench.methods.parts.quantise import draws


def packed_and_back(x, *, stochastic=True):
    words, low, step = TWO_BITS.pack(x, *draws(x, stochastic=stochastic))
    return TWO_BITS.unpack(words, low, step), step


def test_sixteen_numbers_share_a_word():
    x = torch.randn(33, 256, generator=torch.Generator().manual_seed(0))
    words, low, step = TWO_BITS.pack(x, *draws(x, stochastic=True))

    assert words.dtype == torch.int32
    assert words.shape == (33, 16)
    assert low.shape == step.shape == (33, 1)


def test_every_place_of_a_word_holds_every_code():
    """Numbers that are levels themselves come back: 64 in four words, each level in each place."""
    levels = torch.arange(4.0)
    x = torch.stack([levels.roll(turn).repeat_interleave(16) for turn in range(4)])
    restored, step = packed_and_back(x, stochastic=False)

    assert torch.equal(torch.ones(4, 1), step)
    assert torch.equal(x, restored)


def test_nearest_codes_are_those_of_the_slow_way():
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(x)
    for row, out in zip(x, expected, strict=True):
        low, width = row.min(), (row.max() - row.min()) / 3
        for place, number in enumerate(row):
            code = int((number - low) / width + 0.5)
            out[place] = low + code * width

    torch.testing.assert_close(packed_and_back(x, stochastic=False)[0], expected)


def test_stochastic_codes_are_unbiased_and_a_level_off_at_most():
    torch.manual_seed(0)
    x = torch.randn(4, 64)
    draws_of_x = torch.stack([packed_and_back(x)[0] for _ in range(400)])
    step = packed_and_back(x)[1]

    assert ((draws_of_x - x).abs() <= step * 1.001).all()
    # A rounding error has a standard deviation of at most half a step.
    assert ((draws_of_x.mean(0) - x).abs() <= 5 * 0.5 * step / 400**0.5 + 1e-6).all()


def test_holds_about_a_fourteenth_of_what_full_holds(make_vit, batch):
    """2.25 bits of 32 are 0.070; the softmax and statistics come on top."""
    held = {}
    for name in ("full", "int2"):
        model = methods.load(name).prepare(make_vit(embed_dim=256))
        with LiveBytes() as live:
            live.watch([*model.parameters(), *batch], Category.INPUTS)
            before = live.now
            output = model(batch[0])
            held[name] = live.now - before
        del output

    assert 0.070 < held["int2"] / held["full"] < 0.09


def test_a_width_is_no_option():
    with pytest.raises(BadInput, match="no option of 'int2' named 'bits'"):
        methods.load("int2", bits=2)
