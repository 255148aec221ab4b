"""Frozen weights in 8 and 4 bits: codes against the obvious way, gradients, bytes, refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bsrbench import methods
from bsrbench.harness.composition import Composed
from bsrbench.harness.conformance.subject import cross_entropy_of, tiny_batch, tiny_model
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.stored_weight import parameter_numbers, stored_weights
from bsrbench.methods.parts.weight_codes import FLOATS_OF_BYTES, INT8, NF4, NF4_LEVELS

WIDTH, SAME = 32, 1e-6


@pytest.fixture
def weight():
    """Return a weight [96, 40] with rows of very different sizes and one row of zeros."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(96, 40, generator=generator) * torch.logspace(-3, 1, 96).unsqueeze(1)
    rows[17] = 0
    return rows


def test_8_bit_codes_are_those_of_the_obvious_way(weight):
    whole = INT8.unpack(INT8.pack(weight), weight.shape, torch.float32)
    for row, ours in zip(weight.tolist(), whole.tolist(), strict=True):
        largest = max(abs(number) for number in row)
        scale = largest / 127
        expected = [round(number / scale) * scale if scale else 0.0 for number in row]
        assert ours == pytest.approx(expected, abs=SAME * max(largest, 1e-30))


def test_8_bit_codes_are_symmetric(weight):
    ours, mirrored = INT8.pack(weight), INT8.pack(-weight)

    assert torch.equal(ours["codes"], -mirrored["codes"])
    assert int(ours["codes"].min()) >= -127


def test_4_bit_codes_are_those_of_the_obvious_way(weight):
    """Each number gets the nearest level of its block's largest absolute value."""
    parts = NF4.pack(weight)
    nibbles = [code for byte in parts["codes"].tolist() for code in (byte >> 4, byte & 15)]
    flat = weight.flatten().tolist()
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        largest = max(map(abs, block)) or 1.0
        for number, code in zip(block, nibbles[start : start + 64], strict=True):
            distances = [abs(number / largest - level) for level in NF4_LEVELS]
            assert distances[code] == pytest.approx(min(distances), abs=SAME)


def test_scales_are_stored_in_8_bits_after_their_mean_is_subtracted():
    """300 blocks: two groups of scales. e4m3 has 3 bits after the leading one."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(300, 64, generator=generator)
    parts = NF4.pack(weight)
    scales = weight.abs().amax(1)
    away = scales - scales.mean()
    factors = [float(group.abs().max()) / 448 for group in away.split(256)]

    assert parts["scale_codes"].dtype == torch.uint8
    assert len(parts["scale_codes"]) == 300
    assert parts["scale_factors"].tolist() == pytest.approx(factors)
    ends = torch.eye(64, dtype=torch.bool)[weight.abs().argmax(1)]  # the largest of each block
    whole = NF4.unpack(parts, weight.shape, torch.float32)
    assert torch.allclose(whole[ends].abs(), scales, atol=float(away.abs().max()) / 16)


def test_the_numbers_of_bytes_are_torchs():
    every = torch.arange(256, dtype=torch.uint8)
    numbers = every.view(torch.float8_e4m3fn).to(torch.float32)
    known = ~numbers.isnan()

    assert torch.equal(torch.tensor(FLOATS_OF_BYTES)[known], numbers[known])
    assert int(known.sum()) == 254


def test_bytes_are_half_a_byte_per_weight_and_little_more():
    """QLoRA: 0.127 bits per weight for the scales."""
    weight = torch.randn(768, 3072, generator=torch.Generator().manual_seed(5))
    bits = {
        form.name: 8 * sum(part.nbytes for part in form.pack(weight).values()) / weight.numel()
        for form in (INT8, NF4)
    }

    assert bits["nf4"] == pytest.approx(4.127, abs=0.001)
    assert bits["int8w"] == pytest.approx(8 + 32 / 3072)


@pytest.mark.parametrize("form", [INT8, NF4], ids=lambda form: form.name)
@pytest.mark.parametrize("shape", [(3, 5), (64, 64), (1, 130)])
def test_any_shape_can_be_stored(form, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    whole = form.unpack(form.pack(weight), weight.shape, torch.float32)

    assert whole.shape == weight.shape
    assert float((whole - weight).norm() / weight.norm()) < 0.2


@pytest.mark.parametrize("stored", ["int8w", "nf4"])
def test_gradients_are_those_of_a_model_with_the_rounded_weights(stored):
    model = methods.load(f"bsr+{stored}").prepare(tiny_model())
    plain = methods.load("bsr").prepare(tiny_model())
    with torch.no_grad():
        for layer in stored_weights(model):
            name = next(n for n, part in model.named_modules() if part is layer)
            plain.get_submodule(name).weight.copy_(layer.weight)
    losses = [cross_entropy_of(each, tiny_batch()) for each in (model, plain)]
    for loss in losses:
        loss.backward()

    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    theirs = dict(plain.named_parameters())
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    for name, parameter in trained:
        assert torch.allclose(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("head+int8w", 48),  # four in each of twelve blocks
        ("bias+int8w", 48),
        ("bsr+int8w", 36),  # three blocks train
        ("lora+nf4", 48),
        ("dora+nf4", 48),
        ("adapter+int8w", 48),
        ("prompt+int8w", 48),
        ("ladder+int8w", 48),
        ("bsr+int8w+int8", 36),
        ("bsr+int8+int8w", 36),
        ("head+checkpoint+int8w", 48),
        ("bsr+lora+nf4", 48),
    ],
)
def test_every_frozen_linear_is_stored_and_what_trains_is_left_alone(name, stored):
    model = methods.load(name).prepare(tiny_model())
    cross_entropy_of(model, tiny_batch()).backward()
    frozen = [
        part
        for part in model.modules()
        if isinstance(part, nn.Linear) and isinstance(getattr(part, "weight", None), nn.Parameter)
        if not part.weight.requires_grad
    ]

    assert not frozen
    assert len(stored_weights(model)) == stored
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_no_whole_weight_lives_between_the_products():
    """After the forward pass, bsr+int8w+int8 holds as much as bsr+int8 does."""

    def held(name):
        model, batch = methods.load(name).prepare(tiny_model()), tiny_batch()
        known = [*model.parameters(), *model.buffers(), *batch]
        cross_entropy_of(model, batch).backward()
        model.zero_grad()
        with LiveBytes() as live:
            live.watch(known, Category.INPUTS)
            start = live.now
            loss = cross_entropy_of(model, batch)
            held = live.now - start
        del loss
        return held

    assert held("bsr+int8w+int8") == held("bsr+int8")
    assert held("head+nf4") == held("head")


def test_a_weight_in_parts_counts_as_one_frozen_parameter_of_its_shape():
    plain = list(parameter_numbers(methods.load("head").prepare(tiny_model())))
    stored = list(parameter_numbers(methods.load("head+nf4").prepare(tiny_model())))

    assert sorted(plain) == sorted(stored)


def test_products_run_in_the_precision_of_autocast():
    model = methods.load("head+nf4").prepare(tiny_model())
    layer = stored_weights(model)[0]
    x = torch.randn(2, 5, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(x)

    assert made.dtype == torch.bfloat16
    expected = F.linear(x, layer.weight, layer.bias)
    assert torch.allclose(made.float(), expected, atol=0.03 * float(expected.abs().max()))


def test_a_prepared_model_can_be_copied_and_its_state_loaded():
    model = methods.load("bsr+nf4").prepare(tiny_model())
    copied = copy.deepcopy(model)
    other = methods.load("bsr+nf4").prepare(tiny_model(seed=8))
    other.load_state_dict(model.state_dict())
    images, _ = tiny_batch()

    assert torch.equal(copied(images), model(images))
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("name", ["nf4", "full+nf4", "int8w", "int8+nf4"])
def test_there_must_be_something_to_store(name):
    with pytest.raises(Unsupported, match=r"nothing to store.*head\+"):
        methods.load(name).prepare(tiny_model())


def test_a_weight_is_stored_once():
    model = methods.load("head+nf4").prepare(tiny_model())
    with pytest.raises(Unsupported, match="already prepared: 48 weights are stored"):
        methods.load("nf4").prepare(model)
    with pytest.raises(Unsupported, match="'stores weights'"):
        methods.load("head+nf4+int8w").prepare(tiny_model())


class TrainsEverything(Method):
    """A method that trains what others have frozen, and declares another kind."""

    source, exact_forward, kinds = "a test", True, frozenset({Kind.DROPS_TOKENS})

    def prepare(self, model):
        return model.requires_grad_(True)


def test_a_stored_weight_cannot_train():
    parts = (methods.load("head"), methods.load("int8w"), TrainsEverything())

    with pytest.raises(Unsupported, match=r"trains weights that head\+int8w stores in fewer bits"):
        Composed(parts).prepare(tiny_model())
