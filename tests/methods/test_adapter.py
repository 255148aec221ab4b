"""AdaptFormer's bottlenecks: what trains, what they add, against the formula written out."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.meters.live_bytes import LiveBytes

HEAD = 32 * 5 + 5


def adapted(make_vit, **options):
    """Return a model in float64 whose bottlenecks do something."""
    model = methods.load("adapter", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    for block in model.blocks:
        torch.nn.init.normal_(block.mlp.adapter.up.weight, std=0.1)
        torch.nn.init.normal_(block.mlp.adapter.up.bias, std=0.1)
    return model


def written_out(model, images, scale):
    """The formula: MLP(LN(x)) + s ReLU(LN(x) W_down) W_up + x, after each block's attention."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    for block in model.blocks:
        x = x + block.attn(block.norm1(x))
        n, mlp, branch = block.norm2(x), block.mlp, block.mlp.adapter
        wide = F.gelu(n @ mlp.fc1.weight.T + mlp.fc1.bias)
        inner = (n @ branch.down.weight.T + branch.down.bias).clamp(min=0)
        x = (
            (wide @ mlp.fc2.weight.T + mlp.fc2.bias)
            + scale * (inner @ branch.up.weight.T + branch.up.bias)
            + x
        )
    return model.head(model.norm(x)[:, 0])


@pytest.mark.parametrize("options", [{}, {"bottleneck": 3, "scale": 2.0}], ids=str)
def test_logits_and_gradients_are_those_of_the_formula(options, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = adapted(make_vit, **options)
    trained = [p for p in model.parameters() if p.requires_grad]
    logits, expected = model(images), written_out(model, images, options.get("scale", 0.1))
    gradients = torch.autograd.grad(cross_entropy(logits, labels), trained)

    torch.testing.assert_close(expected, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(cross_entropy(expected, labels), trained), gradients
    )
    assert not torch.allclose(make_vit().double()(images), logits, atol=1e-3)


@pytest.mark.parametrize(("options", "inner"), [({}, 64), ({"bottleneck": 8}, 8)])
def test_trains_the_bottlenecks_and_the_head(options, inner, make_vit):
    """A block: 32 x 64 weights down and 64 biases, 64 x 32 up and 32."""
    prepared = methods.load("adapter", **options).prepare(make_vit())
    trained = {name: p for name, p in prepared.named_parameters() if p.requires_grad}
    expected = 12 * (32 * inner + inner + inner * 32 + 32) + HEAD

    assert expected == sum(p.numel() for p in trained.values())
    assert all(".adapter." in name or name.startswith("head.") for name in trained)


def test_the_layer_up_starts_at_zero_and_the_layer_down_does_not(make_vit):
    branch = methods.load("adapter").prepare(make_vit()).blocks[4].mlp.adapter
    # Uniform within 1 / sqrt(32), as torch draws Linear layers.
    largest = float(branch.down.weight.detach().abs().max())
    zeros = (*branch.up.parameters(), branch.down.bias)

    assert [0, 0, 0] == [int(p.count_nonzero()) for p in zeros]
    assert 0.9 / 32**0.5 < largest < 1 / 32**0.5


def test_layer_scale_acts_on_the_sum(make_vit):
    """Doubling every factor after the MLP doubles what the bottleneck adds to the first block."""
    found = []
    for factor in (0.5, 1.0):
        model = methods.load("adapter").prepare(make_vit(init_values=factor))
        block, x = model.blocks[0], torch.ones(1, 17, 32)
        torch.nn.init.ones_(block.mlp.adapter.up.bias)
        with torch.no_grad():
            found.append(block.ls2(block.mlp(x)) - block.ls2(plain_mlp(block.mlp, x)))

    # 0.1 x a bias of 1, times LayerScale's factor
    torch.testing.assert_close(torch.full((1, 17, 32), 0.05), found[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.full((1, 17, 32), 0.1), found[1], rtol=0, atol=1e-6)


def plain_mlp(mlp, x):
    return mlp.fc2(mlp.act(mlp.fc1(x)))


def test_drops_inner_activations_in_training_only(make_vit, batch):
    model = adapted(make_vit, dropout=0.5)
    images = batch[0].double()

    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("options", [{}, {"bottleneck": 5}], ids=str)
def test_declares_the_multiply_adds_it_brings(options, make_vit, batch):
    """17 tokens, twice 32 x 64, in 12 blocks."""
    method = methods.load("adapter", **options)
    image = batch[0][:1]
    more = forward_macs(method.prepare(make_vit()), image).total
    expected = 12 * 17 * 2 * 32 * options.get("bottleneck", 64)

    assert expected == method.added_macs(method.tokens(17), 32)
    assert expected == more - forward_macs(make_vit(), image).total


def held_bytes(name, model, batch):
    prepared = methods.load(name).prepare(model)
    with LiveBytes() as live:
        start = live.now
        loss = cross_entropy(prepared(batch[0]), batch[1])
        held = live.now - start
    del loss
    return held


def test_int8_packs_the_inputs_of_the_bottlenecks(make_vit, batch):
    """They are Linear layers that train: of 16 x 17 tokens 32 + 64 numbers in 12 blocks, 3 B less.

    More is packed, but what the blocks keep is packed without bottlenecks, too.
    """
    packed = held_bytes("adapter+int8", make_vit(), batch)
    plain = held_bytes("adapter", make_vit(), batch)
    without = held_bytes("bias", make_vit(), batch) - held_bytes("bias+int8", make_vit(), batch)

    assert plain - packed > 0.5 * without
    assert packed < 0.6 * plain


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bottleneck": 0}, "bottleneck 0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout 1.0 must lie in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout -0.1 must lie in \[0, 1\)"),
        ({"scale": 0.0}, "scale 0 leaves the bottleneck without effect"),
        ({"bottleneck": 1.5}, "bottleneck"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("adapter", **options)
