"""Back Razor: exactly the entries that should be kept, and gradients of the pruned copies."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.kernel_builds import build_of
from bsrbench.methods.parts.pruned_tensors import (
    _keep_at_once,
    _spread_at_once,
    keep_largest,
    spread,
)

from bsrbench.methods.sparse import Prunes  # isort: skip - the part of it that is tested alone


def kept_the_slow_way(row, kept):
    """Return the row with all but the largest set to zero, of equals the last."""
    order = sorted(range(len(row)), key=lambda i: (-abs(row[i].item()), i))
    out = torch.zeros_like(row)
    for i in order[:kept]:
        out[i] = row[i]
    return out


@pytest.fixture(params=["compiled", "eager"])
def _way(request, monkeypatch):
    monkeypatch.setenv(kernels.SETTING, request.param)
    kernels.chosen.cache_clear()
    build_of.cache_clear()
    yield
    kernels.chosen.cache_clear()
    build_of.cache_clear()


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("width", [64, 61])
@pytest.mark.parametrize("kept", [1, 7, 60])
@pytest.mark.parametrize("ties", [False, True])
def test_keeps_exactly_the_largest(width, kept, ties):
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    x = (2 * x).round() if ties else x.half().float()
    values, bits = keep_largest(x, kept)
    expected = torch.stack([kept_the_slow_way(row, kept) for row in x])

    assert values.dtype == torch.float16
    assert values.shape == (3, kept)
    assert bits.shape == (3, -(-width // 8))
    assert torch.equal(expected, spread(values, bits, width))


def spiky(shape):
    """Numbers whose sampled neighbours say nothing of the rest, and many equals."""
    x = torch.randn(shape)
    x[:, ::19] = 1e30
    x[:, 5::7] = 0.25
    return x


@pytest.mark.parametrize(
    "make", [torch.randn, spiky, torch.zeros, lambda shape: 1e-40 * torch.randn(shape)]
)
@pytest.mark.parametrize("share", [1e-4, 0.1, 0.5, 0.999, 1.0])
def test_compiled_equals_eager_on_rows_of_a_model(make, share, monkeypatch):
    """A sample starts the compiled search; it must be right where the sample is wrong."""
    torch.manual_seed(0)
    x = make((3, 20_011))
    kept = max(1, int(share * x.shape[1]))
    found = []
    for way in ("compiled", "eager"):
        monkeypatch.setenv(kernels.SETTING, way)
        kernels.chosen.cache_clear()
        values, bits = keep_largest(x, kept)
        found.append((values, bits, spread(values, bits, x.shape[1])))
    kernels.chosen.cache_clear()
    build_of.cache_clear()

    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_says_how_the_largest_are_found(monkeypatch):
    monkeypatch.setenv(kernels.SETTING, "compiled")
    kernels.chosen.cache_clear()
    build_of.cache_clear()
    said = methods.load("sparse").environment("cpu")
    kernels.chosen.cache_clear()
    build_of.cache_clear()

    assert said["kernels"] == "compiled"


def test_falls_back_aloud_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv(kernels.SETTING, "auto")
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    kernels.chosen.cache_clear()
    build_of.cache_clear()
    said = methods.load("sparse").environment("cpu")
    kernels.chosen.cache_clear()
    build_of.cache_clear()

    assert said["kernels"] == "eager"
    assert "no-such-compiler" in said["fallback"]


@pytest.mark.parametrize("ties", [False, True])
def test_the_way_for_other_devices_gives_the_same(ties):
    x = torch.randn(4, 61, generator=torch.Generator().manual_seed(1))
    x = (2 * x).round() if ties else x
    values, bits = keep_largest(x, 9)
    found, where = _keep_at_once(x, 9)

    assert torch.equal(values, found.half())
    assert torch.equal(bits, where)
    assert torch.equal(spread(values, bits, 61), _spread_at_once(values.float(), bits, 61))


def test_values_beyond_fp16_do_not_become_infinite():
    values, _ = keep_largest(torch.tensor([[1e6, 1.0]]), 2)

    assert torch.equal(torch.tensor([[65504.0, 1.0]]), values.float())


def test_prunes_each_image_and_each_part_by_itself():
    """Small numbers stay in an image, or in keys, that has no larger ones."""
    x = torch.randn(2, 5, 12)
    x[1] *= 1000
    x[:, :, 4:8] *= 1000
    packed = Prunes(0.5, parts=3)(x)
    restored = packed.restore(packed.tensors, slice(None))
    count = (restored != 0).unflatten(-1, (3, 4)).sum((1, 3))

    assert torch.equal(torch.full((2, 3), 10), count)  # half of 5 tokens x 4 channels
    assert torch.equal(restored[1:], packed.restore(packed.tensors, slice(1, 2)))


def test_queries_keys_and_values_are_pruned_apart(make_vit):
    """Queries keep their share though values are a thousand times larger."""
    inputs = methods.load("sparse").prepare(make_vit()).blocks[0].attn.inputs
    qkv = torch.randn(2, 17, 96)
    qkv[..., 64:] *= 1000
    packed = inputs(qkv)
    restored = packed.restore(packed.tensors, slice(None))
    each = 17 * 32

    assert torch.equal(
        torch.full((2, 3), each - int(0.9 * each)),
        (restored != 0).unflatten(-1, (3, 32)).sum((1, 3)),
    )


def test_a_linear_layer_has_the_gradient_of_its_pruned_input(make_vit, batch):
    """Its weight gradient is that of the pruned input; the one of its input is exact."""
    layer = methods.load("sparse", ratio=0.75).prepare(make_vit()).blocks[0].mlp.fc1
    x = torch.randn(2, 5, 32, requires_grad=True)
    layer(x).square().sum().backward()
    rows = x.detach().reshape(2, -1)
    pruned = torch.stack([kept_the_slow_way(row, 40) for row in rows]).half().float()
    outputs = nn.functional.linear(x.detach(), layer.weight, layer.bias)
    gradient = 2 * outputs

    expected = gradient.flatten(0, 1).T @ pruned.view(10, 32)
    torch.testing.assert_close(layer.weight.grad, expected)
    torch.testing.assert_close(x.grad, gradient @ layer.weight)


def test_keeping_everything_gives_the_exact_gradient_up_to_fp16(make_vit, batch):
    gradients = []
    for name, options in (("full", {}), ("sparse", {"ratio": 0.0})):
        model = methods.load(name, **options).prepare(make_vit())
        cross_entropy(model(batch[0]), batch[1]).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, ours = gradients

    assert (ours - exact).norm() / exact.norm() < 5e-3  # fp16 keeps 11 bits


def test_holds_what_the_arithmetic_says(make_vit, batch):
    """A block of width 64, 17 tokens, 4 heads, in bytes an image at ratio 0.9."""
    model = methods.load("sparse").prepare(make_vit(embed_dim=64, depth=1))
    with LiveBytes() as live:
        live.watch([*model.parameters(), *batch], Category.INPUTS)
        x = torch.randn(16, 17, 64, requires_grad=True)
        before = live.now
        output = model.blocks[0](x)
        held = (live.now - before - output.nbytes) / 16

    numbers, wide, matrix = 17 * 64, 17 * 256, 4 * 17 * 17
    pruned = [numbers] * 8 + [wide, matrix]  # two norms, qkv in, q, k, v, proj in, fc1 in; fc2 in
    expected = sum(2 * (n - int(0.9 * n)) + -(-n // 8) for n in pruned)
    expected += 2 * wide  # GELU's input, dense in fp16
    expected += 4 * 17 * 4  # mean and deviation of two norms
    assert expected == pytest.approx(held, rel=0.001)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2.0])
def test_refuses_ratios_that_leave_nothing(ratio):
    with pytest.raises(BadInput, match=r"must lie in \[0, 1\)"):
        methods.load("sparse", ratio=ratio)
