"""late keeps nothing below its trained blocks, and drops tokens only in them."""

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported


def test_no_gradient_passes_below_the_trained_blocks(make_vit, batch):
    model = methods.load("late").prepare(make_vit())
    asked = []
    for block in model.blocks:
        block.register_forward_hook(lambda *call: asked.append(call[-1].requires_grad))
    model(batch[0])

    assert asked == [False] * 9 + [True] * 3


def test_what_enters_the_trained_blocks_is_what_the_untouched_model_has(make_vit, batch):
    seen = []
    for model in (methods.load("late").prepare(make_vit()), make_vit()):
        model.blocks[9].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model(batch[0])

    assert torch.equal(seen[0], seen[1].detach())


def test_tokens_fall_in_trained_blocks_but_the_last():
    """Half of 16 beside the class token: 8, fused and class token 10; of 9 then 5, which make 7."""
    assert methods.load("late").tokens(17) == (17,) * 9 + (10, 7, 7)
    assert methods.load("late", trained=1).tokens(17) == (17,) * 12


def test_it_fits_any_depth(make_vit, batch):
    model = methods.load("late", trained=2).prepare(make_vit(depth=4))

    assert model(batch[0]).shape == (16, 5)
    with pytest.raises(Unsupported, match="trained = 3, but the model has only 2 blocks"):
        methods.load("late").prepare(make_vit(depth=2))


@pytest.mark.parametrize("options", [{"trained": 0}, {"keep_rate": 0.0}, {"keep_rate": 1.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInput):
        methods.load("late", **options)
