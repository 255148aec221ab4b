"""Ladder side-tuning: the side network written out, what is stored, how it starts."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.meters.live_bytes import LiveBytes

NARROW = 4  # 32 / 8


def ladder(make_vit, **options):
    """Return a model in float64 whose gates do not stand in the middle."""
    changes = options.pop("changes", {})
    model = methods.load("ladder", **options).prepare(make_vit(**changes).double())
    torch.manual_seed(7)
    for rung in model.branch.blocks:
        torch.nn.init.normal_(rung.gate, std=0.1)
    for layer in (model.branch.enter, model.branch.leave):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return model


def attention(block, x, heads):
    """softmax(q k' / sqrt(d)) v by head, written out."""
    qkv = x @ block.attn.qkv.weight.T + block.attn.qkv.bias
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    return mixed @ block.attn.proj.weight.T + block.attn.proj.bias


def narrow_block(block, x, heads):
    x = x + attention(block, block.norm1(x), heads)
    wide = F.gelu(block.norm2(x) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
    return x + wide @ block.mlp.fc2.weight.T + block.mlp.fc2.bias


def written_out(model, plain, images, rungs):
    """Into each narrow block goes g s + (1 - g) d(x), g = sigmoid(a / 0.1)."""
    features = []
    for block in plain.blocks:
        block.register_forward_hook(lambda *call: features.append(call[-1].detach()))
    plain.blocks[0].register_forward_pre_hook(lambda *call: features.append(call[-1][0].detach()))
    plain(images)
    side = model.branch.enter(features[0])
    for index, rung in zip(rungs, model.branch.blocks, strict=True):
        gate = 1 / (1 + torch.exp(-rung.gate / 0.1))
        side = gate * side + (1 - gate) * rung.down(features[index + 1])
        side = narrow_block(rung, side, 4)
    read = side[:, 0] if model.global_pool == "token" else None
    if read is None:
        return model.head(model.fc_norm(model.branch.leave(model.branch.norm(side)).mean(1)))
    return model.head(model.branch.leave(model.branch.norm(read)))


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        ({}, range(12)),
        ({"skip": [0, 4, 8]}, [1, 2, 3, 5, 6, 7, 9, 10, 11]),
        ({"reduction": 2, "prune": False, "skip": [11]}, range(11)),
        ({"changes": {"global_pool": "avg", "class_token": False}}, range(12)),
    ],
    ids=str,
)
def test_logits_and_gradients_are_those_of_the_side_network_written_out(
    options, rungs, make_vit, batch
):
    images, labels = batch[0].double(), batch[1]
    model = ladder(make_vit, **options)
    plain = make_vit(**options.get("changes", {})).double()
    trained = [p for p in model.parameters() if p.requires_grad]
    logits, expected = model(images), written_out(model, plain, images, rungs)
    gradients = torch.autograd.grad(cross_entropy(logits, labels), trained)

    torch.testing.assert_close(expected, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(cross_entropy(expected, labels), trained), gradients
    )


@pytest.mark.parametrize(("options", "narrow", "rungs"), [
    ({}, 4, 12), ({"reduction": 4}, 8, 12), ({"skip": [0, 4, 8]}, 4, 9),
])  # fmt: skip
def test_trains_the_side_network_and_the_head(options, narrow, rungs, make_vit):
    """A narrow block: 12 c^2 weights and 13 c of biases and norms; a layer down; a gate."""
    prepared = methods.load("ladder", **options).prepare(make_vit())
    trained = {name: p.numel() for name, p in prepared.named_parameters() if p.requires_grad}
    down = 32 * narrow + narrow
    rung = 12 * narrow**2 + 13 * narrow + down + 1
    expected = down + rungs * rung + 2 * narrow + (narrow * 32 + 32) + 165

    assert expected == sum(trained.values())
    assert all(name.startswith(("branch.", "head.")) for name in trained)


def test_gates_start_in_the_middle_and_are_sharp(make_vit):
    """sigmoid(0.1 / 0.1) = 0.731: the narrow network's share."""
    rung = methods.load("ladder").prepare(make_vit()).branch.blocks[0]
    seen = []
    rung.norm1.register_forward_pre_hook(lambda *call: seen.append(call[-1][0][0, 0, 0].item()))
    torch.nn.init.zeros_(rung.down.weight)
    for value in (0.0, 0.1):
        torch.nn.init.constant_(rung.gate, value)
        rung((torch.ones(1, 17, NARROW), torch.zeros(1, 17, 32)))

    assert [0.5, pytest.approx(0.7310586)] == seen


def test_of_the_frozen_network_only_what_the_layers_down_read_is_stored(make_vit, batch):
    """Its embedded tokens and the outputs of 12 blocks; nothing of the inside of a block."""
    model = methods.load("ladder").prepare(make_vit())
    stored = {}

    def note(x):
        stored[x.untyped_storage().data_ptr()] = x
        return x

    with saved_tensors_hooks(note, lambda x: x):
        loss = cross_entropy(model(batch[0]), batch[1])
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    wide = [x for place, x in stored.items() if place not in weights and x.numel() == 16 * 17 * 32]
    del loss

    # Inside a narrow block the widest has 4 x 4 numbers a token, a wide block's own 32 and more.
    assert len(wide) == 13
    assert max(x.numel() for x in stored.values()) == 16 * 17 * 32


def strongest(rows, count):
    """Of rows of numbers, the indices of those with the largest sums of magnitudes."""
    sums = [sum(abs(value) for value in row) for row in rows]
    return sorted(sorted(range(len(rows)), key=lambda index: -sums[index])[:count])


def choices(model, factor):
    """For each block what is kept: inputs, rows of q, k and v, after attention, inner, outputs."""
    kept = strongest(model.patch_embed.proj.weight.flatten(1).tolist(), NARROW)
    found = []
    for block in model.blocks:
        q, k, v = (part.tolist() for part in block.attn.qkv.weight.chunk(3))
        products = [[q[r][c] * k[r][c] * v[r][c] for c in kept] for r in range(32)]
        rows = strongest(products, NARROW)
        proj, fc2 = ((factor * layer.weight).tolist() for layer in (block.attn.proj, block.mlp.fc2))
        middle = strongest([[row[c] for c in rows] for row in proj], NARROW)
        inner = strongest([[row[c] for c in middle] for row in block.mlp.fc1.weight.tolist()], 16)
        after = strongest([[row[c] for c in inner] for row in fc2], NARROW)
        found.append((kept, rows, middle, inner, after))
        kept = after
    return found


@pytest.mark.parametrize("scaled", [False, True])
def test_narrow_blocks_start_from_the_strongest_weights(scaled, make_vit):
    """By lists and loops, with the choice of skipped blocks passed on, too."""
    changes = {"init_values": 0.5} if scaled else {}
    factor = 0.5 if scaled else 1.0
    wide = make_vit(**changes)
    for parameter in wide.parameters():  # norms and biases that can be told apart
        torch.nn.init.normal_(parameter)
    for block in wide.blocks if scaled else ():
        torch.nn.init.constant_(block.ls1.gamma, 0.5)
        torch.nn.init.constant_(block.ls2.gamma, 0.5)
    expected = choices(wide, factor)
    prepared = methods.load("ladder", skip=[5]).prepare(wide)
    rungs = [index for index in range(12) if index != 5]

    for index, narrow in zip(rungs, prepared.branch.blocks, strict=True):
        own, (kept, rows, middle, inner, after) = wide.blocks[index], expected[index]
        pairs = {
            "norm1": (narrow.norm1.weight, own.norm1.weight[kept]),
            "norm2": (narrow.norm2.bias, own.norm2.bias[middle]),
            "keys": (narrow.attn.qkv.weight[4:8], own.attn.qkv.weight[32:64][rows][:, kept]),
            "of values": (narrow.attn.qkv.bias[8:], own.attn.qkv.bias[64:][rows]),
            "proj": (narrow.attn.proj.weight, factor * own.attn.proj.weight[middle][:, rows]),
            "fc1": (narrow.mlp.fc1.weight, own.mlp.fc1.weight[inner][:, middle]),
            "of fc2": (narrow.mlp.fc2.bias, factor * own.mlp.fc2.bias[after]),
            "fc2": (narrow.mlp.fc2.weight, factor * own.mlp.fc2.weight[after][:, inner]),
        }
        for name, (ours, theirs) in pairs.items():
            torch.testing.assert_close(theirs, ours, msg=f"{name} of block {index}")
    assert torch.equal(wide.norm.weight[expected[-1][-1]], prepared.branch.norm.weight)


def test_without_pruning_narrow_blocks_start_at_random(make_vit):
    """Cut off normal numbers of deviation 0.02, as timm draws them; biases 0."""
    prepared = methods.load("ladder", prune=False, reduction=1).prepare(make_vit())
    narrow = prepared.branch.blocks[3]

    assert float(narrow.mlp.fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert int(narrow.attn.qkv.bias.count_nonzero()) == 0
    assert not torch.equal(narrow.attn.qkv.weight, prepared.blocks[3].attn.qkv.weight)


@pytest.mark.parametrize("options", [{}, {"reduction": 4, "skip": [0, 4, 8]}], ids=str)
def test_declares_the_multiply_adds_it_brings(options, make_vit, batch):
    method = methods.load("ladder", **options)
    image = batch[0][:1]
    more = forward_macs(method.prepare(make_vit()), image).total
    narrow, rungs = 32 // options.get("reduction", 8), 12 - len(options.get("skip", ()))
    inside = 12 * narrow**2 * 17 + 2 * 17**2 * narrow
    expected = 17 * 32 * narrow + rungs * (inside + 17 * 32 * narrow) + narrow * 32

    assert expected == method.added_macs(method.tokens(17), 32)
    assert expected == more - forward_macs(make_vit(), image).total


def held_bytes(model, batch):
    with LiveBytes() as live:
        start = live.now
        loss = cross_entropy(model(batch[0]), batch[1])
        held = live.now - start
    del loss
    return held


@pytest.mark.parametrize("other", ["checkpoint", "int8", "int4", "sparse"])
def test_what_stores_activations_acts_on_the_narrow_blocks(other, make_vit, batch):
    """The frozen blocks have nothing to act on and stay as they are."""
    model = methods.load(f"ladder+{other}").prepare(make_vit())
    plain = methods.load("ladder").prepare(make_vit())

    for own, untouched in zip(model.blocks, make_vit().blocks, strict=True):
        assert [type(part) for part in untouched.modules()] == [
            type(part) for part in own.modules()
        ]
    assert held_bytes(model, batch) < held_bytes(plain, batch)


def test_checkpointing_changes_no_gradient_of_the_ladder(make_vit, batch):
    model = methods.load("ladder+checkpoint").prepare(make_vit())
    plain = methods.load("ladder").prepare(make_vit())
    plain.load_state_dict(model.state_dict())
    for one in (model, plain):
        cross_entropy(one(batch[0]), batch[1]).backward()

    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)
