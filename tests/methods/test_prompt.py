"""Visual prompts: where they stand, what the blocks make of them, against a loop written out."""

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.composition import Composed
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.method import Kind, Method, Unsupported


def written_out(model, images, length, deep):
    """Class token, prompts, patches; deep: what became of the prompts is replaced."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    for index, block in enumerate(model.blocks):
        class_token, rest = x[:, :1], x[:, 1:]
        if index == 0 or deep:
            patches = rest if index == 0 else rest[:, length:]
            rest = torch.cat([block.prompts.repeat(len(x), 1, 1), patches], dim=1)
        x = torch.cat([class_token, rest], dim=1)
        x = x + block.attn(block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    return model.head(model.norm(x)[:, 0])


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("deep", [True, False])
def test_logits_and_gradients_are_those_of_the_loop(length, deep, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    method = methods.load("prompt", length=length, deep=deep)
    model = method.prepare(make_vit().double())
    trained = [p for p in model.parameters() if p.requires_grad]
    logits, expected = model(images), written_out(model, images, length, deep)
    gradients = torch.autograd.grad(cross_entropy(logits, labels), trained)

    torch.testing.assert_close(expected, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(cross_entropy(expected, labels), trained), gradients
    )


@pytest.mark.parametrize(("options", "blocks"), [({}, 12), ({"deep": False}, 1)])
def test_trains_the_prompts_and_the_head(options, blocks, make_vit):
    """5 prompts of 32 numbers a block that has some; the head 32 x 5 + 5."""
    prepared = methods.load("prompt", **options).prepare(make_vit())
    trained = {name: p.numel() for name, p in prepared.named_parameters() if p.requires_grad}
    names = {f"blocks.{index}.prompts" for index in range(blocks)}

    assert names | {"head.weight", "head.bias"} == set(trained)
    assert blocks * 5 * 32 + 165 == sum(trained.values())


def test_prompts_are_drawn_within_xaviers_bound(make_vit):
    """Patches of 8 x 8 pixels in 3 colours, width 32."""
    prompts = methods.load("prompt", length=200).prepare(make_vit()).blocks[3].prompts
    bound = math.sqrt(6 / (3 * 8 * 8 + 32))

    assert 0.99 * bound < float(prompts.detach().abs().max()) <= bound
    assert abs(float(prompts.detach().mean())) < 0.05 * bound


@pytest.mark.parametrize("deep", [True, False])
def test_every_block_sees_the_prompts_and_the_class_token_stays_first(deep, make_vit, batch):
    """What it reads first never is a prompt: the class token's row is the model's own."""
    model = methods.load("prompt", length=3, deep=deep).prepare(make_vit())
    entering = []
    model.blocks[0].norm1.register_forward_pre_hook(lambda *call: entering.append(call[-1][0]))
    model(batch[0])
    first = (model.cls_token + model.pos_embed[:, :1]).expand(16, -1, -1)

    torch.testing.assert_close(first, entering[0][:, :1])
    torch.testing.assert_close(
        model.blocks[0].prompts.expand(16, -1, -1), entering[0][:, 1:4], rtol=0, atol=0
    )
    # 16 patches, the class token, 3 prompts
    assert (20,) * 12 == methods.load("prompt", length=3, deep=deep).tokens(17)
    assert entering[0].shape[1] == 20


def test_registers_stay_between_the_class_token_and_the_prompts(make_vit, batch):
    model = methods.load("prompt", length=2).prepare(make_vit(reg_tokens=4))
    entering = []
    model.blocks[7].norm1.register_forward_pre_hook(lambda *call: entering.append(call[-1][0]))
    model(batch[0])

    # class token, 4 registers, 2 prompts, 16 patches
    assert entering[0].shape[1] == 23
    torch.testing.assert_close(model.blocks[7].prompts[0], entering[0][0, 5:7])


@pytest.mark.parametrize("options", [{}, {"length": 2, "deep": False}], ids=str)
def test_declares_the_multiply_adds_beside_those_of_the_tokens(options, make_vit, batch):
    """12 blocks on 17 + p tokens: 12 C^2 each, attention 2 N^2 C; patches and head as ever."""
    method = methods.load("prompt", **options)
    length = options.get("length", 5)
    tokens = 17 + length
    expected = 16 * 3 * 8**2 * 32 + 32 * 5 + 12 * (12 * 32**2 * tokens + 2 * tokens**2 * 32)
    # All but the first block's attention follows from tokens(); there 17 would be entering.
    first = 4 * 32**2 * length + 2 * 32 * (tokens**2 - 17**2)

    assert expected == forward_macs(method.prepare(make_vit()), batch[0][:1]).total
    assert first == method.added_macs(method.tokens(17), 32)


def test_drops_numbers_of_the_prompts_in_training_only(make_vit, batch):
    model = methods.load("prompt", dropout=0.5).prepare(make_vit())

    assert not torch.equal(model(batch[0]), model(batch[0]))
    model.eval()
    assert torch.equal(model(batch[0]), model(batch[0]))


def test_a_composition_passes_on_the_prompts_too():
    assert (22,) * 12 == methods.load("prompt+checkpoint").tokens(17)
    assert (17,) * 12 == methods.load("adapter+int8").tokens(17)


@dataclass(frozen=True)
class Dropper(Method):
    """A method that drops tokens and does nothing else."""

    source = "baseline"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.DROPS_TOKENS})

    def prepare(self, model):
        return model


@pytest.mark.parametrize("order", [1, -1])
def test_prompts_and_dropping_are_refused_before_the_model_changes(order, make_vit):
    parts = (methods.load("prompt"), Dropper())[::order]
    model = make_vit()

    with pytest.raises(Unsupported, match=re.escape("one adds tokens and the other drops tokens")):
        Composed(parts=parts).prepare(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_says_that_an_averaging_head_would_average_the_prompts(make_vit):
    with pytest.raises(Unsupported, match="the head reads 'avg', not the class token"):
        methods.load("prompt").prepare(make_vit(global_pool="avg", class_token=False))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length 0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout 1.0 must lie in \[0, 1\)"),
        ({"deep": "yes"}, "deep"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("prompt", **options)
