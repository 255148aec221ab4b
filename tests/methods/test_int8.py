"""Mesa's way: running ranges, unbiased codes, exact in shape, and really the only copy."""

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.packed_modules import LinearPacked

from bsrbench.methods.int8 import EightBits  # isort: skip - the part of it that is tested alone


def codec(groups=1, **settings):
    return EightBits(groups, **{"stochastic": True} | settings)


def back(packed, images=slice(None)):
    return packed.restore(packed.tensors, images)


def step_of(packed):
    return packed.tensors[2]


@pytest.mark.parametrize(("shape", "channels"), [((4, 17, 32), -1), ((4, 8, 17, 5), 1)])
@pytest.mark.parametrize("stochastic", [True, False])
def test_codes_lie_within_one_level(shape, channels, stochastic):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed = codec(8, stochastic=stochastic, channels=channels)(x)
    worst = step_of(packed).max() * (1.0 if stochastic else 0.5)

    assert back(packed).shape == x.shape
    assert (back(packed) - x).abs().max() <= worst * 1.001
    assert torch.equal(back(packed)[1:3], back(packed, slice(1, 3)))


def test_a_code_takes_one_byte():
    assert codec()(torch.randn(4, 17, 32)).tensors[0].nbytes == 4 * 17 * 32


def test_every_group_of_channels_has_its_own_range():
    x = torch.randn(4, 17, 32)
    x[..., 8:] *= 1000  # three of four groups
    error = (back(codec(4, stochastic=False)(x)) - x)[..., :8].abs().max()

    assert error < 0.02  # a common range would give steps of about 25


def test_the_range_runs_with_a_decay_of_nine_tenths():
    eight = codec(1, stochastic=False)
    eight(torch.tensor([[[-1.0, 3.0, 0.0, 0.0]]]))
    first = eight.low.item(), eight.width.item()
    eight(torch.tensor([[[-2.0, 4.0, 0.0, 0.0]]]))

    assert first == (-1.0, 4.0)  # the first tensor's own
    assert eight.low.item() == pytest.approx(0.9 * -1 + 0.1 * -2)
    assert eight.width.item() == pytest.approx(0.9 * 4 + 0.1 * 6)


def test_what_lies_outside_the_range_is_clamped_at_both_ends():
    eight = codec(1)
    eight(torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]))
    restored = back(eight(torch.tensor([[[-9.0, 9.0, 0.0, 0.0]]])))
    low, width = 0.1 * -9, 0.9 * 1 + 0.1 * 18

    assert restored[0, 0, 0].item() == pytest.approx(low)
    assert restored[0, 0, 1].item() == pytest.approx(low + width)


def test_stochastic_codes_are_unbiased_inside_the_range():
    torch.manual_seed(0)
    x = torch.randn(1, 50, 8)
    eight = codec()
    draws = torch.stack([back(eight(x.clone())) for _ in range(400)])
    # A level's rounding error has a standard deviation of at most half a step.
    bound = 5 * 0.5 * step_of(eight(x)).max() / 400**0.5

    assert (draws.mean(0) - x).abs().max() <= bound


def test_rounding_errors_of_neighbours_are_not_alike():
    """Errors of two numbers of one row, and of one column, are not correlated."""
    torch.manual_seed(0)
    eight = codec()
    x = torch.full((1, 2, 4), 0.5)
    x[0, 0, 0], x[0, 1, 3] = -1.0, 2.0
    errors = torch.stack([(back(eight(x.clone())) - x)[0] for _ in range(2000)])
    of_row = torch.corrcoef(errors[:, 0, 1:].T)
    of_column = torch.corrcoef(errors[:, :, 1].T)

    # The standard deviation of a correlation of 2,000 independent pairs is 0.022.
    assert of_row.triu(1).abs().max() < 0.1
    assert of_column.triu(1).abs().max() < 0.1


def test_a_constant_tensor_survives():
    """A level is then 2**-20 of the number: what fp32 can tell apart when rounding."""
    x = torch.full((2, 3, 8), 1.5)
    nothing = torch.zeros(2, 3, 8)

    torch.testing.assert_close(x, back(codec(2)(x)), rtol=2**-20, atol=0)
    assert torch.equal(nothing, back(codec(2)(nothing)))


def test_weight_gradient_of_a_linear_layer_is_unbiased():
    torch.manual_seed(0)
    layer, plain = nn.Linear(8, 4), nn.Linear(8, 4)
    plain.load_state_dict(layer.state_dict())
    extend(layer, LinearPacked, codec=codec(2))
    x = torch.randn(3, 5, 8)
    plain(x).square().sum().backward()
    draws = []
    for _ in range(300):
        layer.zero_grad()
        layer(x.clone()).square().sum().backward()
        draws.append(layer.weight.grad.clone())
    mean, deviation = torch.stack(draws).mean(0), torch.stack(draws).std(0)

    assert torch.equal(plain.bias.grad, layer.bias.grad)
    assert ((mean - plain.weight.grad).abs() <= 5 * deviation / 300**0.5 + 1e-6).all()


def test_who_saves_the_same_tensor_next_gets_the_same_copy():
    """As queries, keys and values do, or a gate and its experts: the same codes, packed once."""
    eight, x = codec(), torch.randn(2, 3, 8)
    first, again = eight(x), eight(x)
    after_a_change = eight(x.add_(1))

    assert first.tensors[0] is again.tensors[0]
    assert first.tensors[0] is not after_a_change.tensors[0]


@pytest.mark.parametrize("materialise", [False, True])
def test_holds_what_the_arithmetic_says(materialise, make_vit, batch):
    """A block of width 64, 17 tokens, 4 heads: bytes an image; ranges beside."""
    method = methods.load("int8", materialise=materialise)
    model = method.prepare(make_vit(embed_dim=64, depth=1))
    with LiveBytes() as live:
        live.watch([*model.parameters(), *model.buffers(), *batch], Category.INPUTS)
        x = torch.randn(16, 17, 64, requires_grad=True)
        before = live.now
        output = model.blocks[0](x)
        held = (live.now - before - output.nbytes) / 16

    # Inputs of two norms, of qkv, fc1; q, k and v; the input of proj; GELU's and fc2's.
    expected = 17 * 64 * (2 + 2 + 3 + 1 + 4 + 4)
    expected += 4 * 17 * 4  # mean and deviation of two norms
    # The softmax, its 68 channels a token a multiple of 4.
    expected += 4 * 17 * 17 if materialise else 0
    ranges = 2 * 4 * (64 * 5 + 192 + 256 * 2 + (4 * 17 if materialise else 0)) / 16
    assert expected + ranges == pytest.approx(held, rel=0.02)


def test_codes_are_freed_as_backward_reads_them(make_vit, batch):
    """When the gradient leaves block 1, at most two blocks' codes of twelve are left."""
    model = methods.load("int8").prepare(make_vit(embed_dim=64))
    seen = {}
    with LiveBytes() as live:
        live.watch([*model.parameters(), *model.buffers(), *batch], Category.INPUTS)
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

    assert memory_pass(spec, methods.load).notes == ()


def test_a_frozen_linear_layer_stores_nothing():
    layer = nn.Linear(8, 4).requires_grad_(False)
    extend(layer, LinearPacked, codec=codec())
    x = torch.randn(2, 3, 8, requires_grad=True)

    assert type(layer(x).grad_fn).__name__ != "_LinearBackward"


def test_other_widths_are_refused():
    with pytest.raises(BadInput, match="bits 4 is not implemented"):
        methods.load("int8", bits=4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"qk_norm": True}, "norms of queries and keys"), ({"proj_drop_rate": 0.1}, "dropout")],
)
def test_says_what_it_cannot_pack(changes, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load("int8").prepare(make_vit(**changes))


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("first", [True, False])
def test_numbers_that_are_not_finite_leave_the_range_as_it_was(bad, first):
    """They are read as NaN, with their whole group; the other group and the next tensor are not."""
    eight = codec(2, stochastic=False)
    good = torch.tensor([[[-1.0, 3.0, 0.0, 0.0, 5.0, 6.0, 5.0, 5.0]]])
    if not first:
        eight(good)
    broken = good.clone()
    broken[..., 1] = bad
    read = back(eight(broken))
    after = eight.low.clone(), eight.width.clone()
    again = back(eight(good + 0))

    assert bool(read[..., :4].isnan().all())
    assert bool(read[..., 4:].isfinite().all())
    expected = ([torch.nan] if first else [-1.0], [torch.nan] if first else [4.0])
    torch.testing.assert_close(after[0][:1], torch.tensor(expected[0]), equal_nan=True)
    torch.testing.assert_close(after[1][:1], torch.tensor(expected[1]), equal_nan=True)
    torch.testing.assert_close(again, good, atol=4 / 255, rtol=0)


def test_a_range_too_wide_for_fp32_is_none():
    """Both ends are finite and their distance is not."""
    eight = codec(1, stochastic=False)
    eight(torch.tensor([[[-3e38, 3e38, 0.0, 0.0]]]))
    good = torch.tensor([[[-1.0, 3.0, 0.0, 0.0]]])

    torch.testing.assert_close(back(eight(good)), good, atol=4 / 255, rtol=0)


@pytest.mark.parametrize("bad_step", [0, 1])
@pytest.mark.parametrize(
    "name", ["full", "bsr+int8", "int8", "int4", "int2", "sparse", "lora+int8"]
)
def test_a_batch_with_an_infinity_spoils_its_own_step_alone(name, bad_step, make_vit, batch):
    """A gradient scaler skips such a step and goes on."""
    torch.manual_seed(0)
    model = methods.load(name).prepare(make_vit())
    finite = []
    for step in range(3):
        images = batch[0].clone()
        if step == bad_step:
            images[0, 0, 0, 0] = torch.inf
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(images), batch[1]).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        finite.append(all(bool(one.isfinite().all()) for one in gradients))

    assert [step != bad_step for step in range(3)] == finite


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora+int8", {"lora": {"rank": 8}}),
        ("lora+int8", {"lora": {"rank": 5, "targets": ["qkv", "proj", "fc1", "fc2"]}}),
        ("dora+int8", {"dora": {"rank": 7}}),
        ("adapter+int8", {"adapter": {"bottleneck": 64}}),
        ("lora+int8", {"lora": {"rank": 8}, "int8": {"materialise": True}}),
        ("prompt+int8", {"prompt": {"length": 2}}),
    ],
)
@pytest.mark.parametrize("heads", [3, 6])
def test_channels_that_heads_do_not_divide_share_one_range(name, options, heads, make_vit, batch):
    """A matrix of rank 8 has 8 channels, and real models three heads, or six."""
    made = methods.load(name, **options)
    model = made.prepare(make_vit(embed_dim=48, num_heads=heads, depth=2))
    plain = methods.load(name.split("+")[0], **options[name.split("+")[0]])
    expected = plain.prepare(make_vit(embed_dim=48, num_heads=heads, depth=2))
    expected.load_state_dict(model.state_dict(), strict=False)
    torch.nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    torch.nn.functional.cross_entropy(expected(batch[0]), batch[1]).backward()
    got, right = (
        torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None])
        for each in (model, expected)
    )

    assert (got - right).norm() < 0.2 * right.norm()


def test_a_prediction_for_cuda_recomputes_fused_attention(make_spec):
    """On a CPU the recomputed softmax serves the gradients too, which saves two products."""
    on_cpu, on_cuda = (
        predict(make_spec("int8", device=device), methods.load).measurements["step_flop"]
        for device in ("cpu", "cuda")
    )

    # Two products, six blocks, 2 FLOP, four images, 17 x 17 scores, 64 channels.
    assert on_cuda - on_cpu == 2 * 6 * 2 * 4 * 17 * 17 * 64
