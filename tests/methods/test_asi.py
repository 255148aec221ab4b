"""ASI: gradients of the projected input, one iteration per pass, and what is stored between."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance.subject import cross_entropy_of, tiny_batch, tiny_model
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.tucker_inputs import InputSubspace, LinearInSubspace, RankChoice
from tests.methods.tucker_by_hand import (
    drawn_starts,
    low_rank,
    next_spans,
    projection,
    ranks_of,
)

SHAPE, OUT = (6, 5, 7), 11


def make_layer(ranks=(), explained=None, dtype=torch.float64):
    torch.manual_seed(0)
    layer = nn.Linear(SHAPE[2], OUT).to(dtype)
    extend(layer, LinearInSubspace, subspace=InputSubspace(RankChoice(explained, ranks)))
    return layer


def gradients(layer, x, seed=5):
    """Return the gradients of weight, bias and input, and that of the output [b, n, out]."""
    layer.zero_grad()
    x = x.clone().requires_grad_(True)
    output = layer(x)
    of_output = torch.randn(
        output.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype
    )
    output.backward(of_output)
    return layer.weight.grad.numpy(), layer.bias.grad.numpy(), x.grad.numpy(), of_output.numpy()


def of_weight(of_output, x):
    return np.einsum("bno,bnc->oc", of_output, x)


def inputs(steps, shape=SHAPE):
    """Return inputs that change slowly, like those of a training."""
    first = low_rank(shape, (2, 2, 2), noise=0.5)
    drift = (0.1 * step * low_rank(shape, (1, 1, 1), 0.1, seed=step) for step in range(steps))
    return [first + change for change in drift]


def test_the_output_is_that_of_the_linear_layer():
    layer, x = make_layer((2, 3, 4)), inputs(1)[0]

    assert torch.equal(nn.functional.linear(x, layer.weight, layer.bias), layer(x))


@pytest.mark.parametrize("choice", [{"ranks": SHAPE}, {"explained": 1.0}], ids=str)
def test_with_full_ranks_the_gradient_is_exact(choice):
    layer, (x,) = make_layer(**choice), inputs(1)
    weight, _, _, of_output = gradients(layer, x)

    np.testing.assert_allclose(of_weight(of_output, x.numpy()), weight, atol=1e-12)


@pytest.mark.parametrize("ranks", [(2, 3, 4), (6, 2, 2), (1, 5, 3), (3, 1, 1)], ids=str)
def test_the_gradient_is_that_of_the_projected_input_after_one_iteration_per_pass(ranks):
    """Written out with unfoldings and SVD; each pass starts where the one before ended."""
    layer = make_layer(ranks)
    spans = drawn_starts(SHAPE, ranks, seed=3)
    torch.manual_seed(3)
    for x in inputs(4):
        weight, bias, of_x, of_output = gradients(layer, x)
        spans = next_spans(x.numpy(), spans)
        expected = of_weight(of_output, projection(x.numpy(), spans))

        np.testing.assert_allclose(expected, weight, atol=1e-9)
        np.testing.assert_allclose(of_output.sum((0, 1)), bias, atol=1e-12)
        np.testing.assert_allclose(of_output @ layer.weight.detach().numpy(), of_x, atol=1e-12)


def test_iterations_over_one_input_converge_to_the_largest_singular_vectors():
    """A start anew in each pass would stay where it is."""
    layer, (x,) = make_layer((2, 2, 2)), inputs(1)
    torch.manual_seed(3)
    for _ in range(200):
        weight, _, _, of_output = gradients(layer, x)
    unfoldings = [np.moveaxis(x.numpy(), mode, 0).reshape(n, -1) for mode, n in enumerate(SHAPE)]
    best = [np.linalg.svd(a, full_matrices=False)[0][:, :2] for a in unfoldings]

    np.testing.assert_allclose(of_weight(of_output, projection(x.numpy(), best)), weight, atol=1e-6)


def test_ranks_are_chosen_on_the_first_batch_and_stay():
    layer = make_layer(explained=0.8)
    first, second = low_rank(SHAPE, (2, 2, 2), 0.05), torch.randn(SHAPE, dtype=torch.float64)
    gradients(layer, first)
    gradients(layer, second)

    assert ranks_of(first.numpy(), 0.8) == tuple(layer.subspace.ranks)
    assert ranks_of(second.numpy(), 0.8) != ranks_of(first.numpy(), 0.8)


def test_a_form_that_is_no_smaller_is_not_made():
    """Ranks 5, 4, 6 give 120 + 30 + 20 + 42 = 212 numbers; the input has 6 x 5 x 7 = 210."""
    layer, (x,) = make_layer((5, 4, 6)), inputs(1)
    weight, _, _, of_output = gradients(layer, x)

    assert layer.subspace.factors == [None, None, None]
    np.testing.assert_allclose(of_weight(of_output, x.numpy()), weight, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)], ids=str
)
def test_bytes_stored_are_those_of_core_and_factors(dtype, size):
    """Images 2 of 6, tokens whole, channels 3 of 7: 2 5 3 + 6 2 + 7 3 = 63 numbers."""
    layer, x = make_layer((2, 5, 3), dtype=dtype), inputs(1)[0].to(dtype).requires_grad_(True)
    with LiveBytes() as live:
        live.watch([*layer.parameters(), x], Category.INPUTS)
        start = live.now
        output = layer(x)
        held = live.now - start - output.nbytes

    assert 63 * size == held


def test_two_passes_before_a_backward_pass_keep_their_own_forms():
    layer, both = make_layer((2, 3, 4)), inputs(2)
    torch.manual_seed(3)
    outputs = [layer(x) for x in both]
    sum(output.sum() for output in outputs).backward()
    spans, expected = drawn_starts(SHAPE, (2, 3, 4), seed=3), 0
    for x in both:
        spans = next_spans(x.numpy(), spans)
        expected = expected + projection(x.numpy(), spans).sum((0, 1))

    np.testing.assert_allclose(np.tile(expected, (OUT, 1)), layer.weight.grad.numpy(), atol=1e-9)


def test_a_smaller_batch_draws_its_images_anew_and_leaves_the_factor_of_the_usual_one():
    layer, ranks = make_layer((2, 3, 4)), (2, 3, 4)
    usual, later = inputs(2)
    torch.manual_seed(3)
    gradients(layer, usual)
    spans = next_spans(usual.numpy(), drawn_starts(SHAPE, ranks, seed=3))
    small = usual[:4]
    torch.manual_seed(9)
    weight, _, _, of_output = gradients(layer, small)
    images = drawn_starts((4, 5, 7), ranks, seed=9)[0]
    of_small = next_spans(small.numpy(), [images, *spans[1:]])

    np.testing.assert_allclose(
        of_weight(of_output, projection(small.numpy(), of_small)), weight, atol=1e-9
    )
    weight, _, _, of_output = gradients(layer, later)
    after = next_spans(later.numpy(), [spans[0], *of_small[1:]])
    np.testing.assert_allclose(
        of_weight(of_output, projection(later.numpy(), after)), weight, atol=1e-9
    )


def test_a_batch_with_fewer_images_than_the_rank_keeps_them_all():
    layer, (x,) = make_layer((4, 2, 2)), inputs(1)
    gradients(layer, x[:3])

    assert layer.subspace.factors[0] is None
    assert layer.subspace.factors[1].shape == (5, 2)


def test_nothing_is_stored_and_no_factor_moves_without_a_gradient_of_the_weight():
    layer, (x,) = make_layer((2, 3, 4)), inputs(1)
    with torch.no_grad():
        layer(x)
    layer.weight.requires_grad_(False)
    layer(x.clone().requires_grad_(True)).sum().backward()

    assert layer.subspace.factors == [None, None, None]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_large_inputs_do_not_overflow_in_low_precision(dtype):
    """The sum over a row's squares is 49 x 5 x 10^6, far above the largest number of fp16."""
    layer = make_layer((2, 3, 4), dtype=torch.float32)
    x = 1000 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype):
        output = layer(x)
    output.backward(torch.full_like(output, 1e-3))

    assert bool(torch.isfinite(layer.weight.grad).all())
    assert {torch.float16: torch.float32}.get(dtype, dtype) == layer.subspace.factors[0].dtype


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("options", [{}, {"ranks": (4, 5, 8)}], ids=str)
def test_a_training_resumes_bit_by_bit(options):
    def model():
        return methods.load("asi", **options).prepare(tiny_model())

    def step(trained, images=16):
        trained.zero_grad()
        cross_entropy_of(trained, tuple(part[:images] for part in tiny_batch())).backward()
        return {name: p.grad.clone() for name, p in trained.named_parameters()}

    whole, resumed = model(), model()
    torch.manual_seed(1)
    step(whole)
    kept, generator = saved_and_loaded(whole.state_dict()), torch.get_rng_state()
    expected = [step(whole, 16), step(whole, 10), step(whole, 16)]
    resumed.load_state_dict(kept)
    torch.set_rng_state(generator)
    read = [step(resumed, 16), step(resumed, 10), step(resumed, 16)]

    for one, other in zip(expected, read, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_state_from_before_the_first_batch_undoes_the_choice_of_ranks():
    model = methods.load("asi").prepare(tiny_model())
    before = saved_and_loaded(model.state_dict())
    cross_entropy_of(model, tiny_batch()).backward()
    chosen = model.blocks[0].mlp.fc1.subspace
    assert len(chosen.ranks) == 3
    model.load_state_dict(before)

    assert (chosen.ranks, chosen.factors) == ([], [None, None, None])


def test_the_output_of_fused_attention_is_not_stored_twice():
    """The projection reads what fused attention stores; explicit attention does not store it."""
    fused = methods.load("asi").prepare(tiny_model())
    explicit = methods.load("bsr", exact_attention=True, drop_at=(3,), trained_blocks=(3,))
    explicit = methods.load("asi").prepare(explicit.prepare(tiny_model()))
    for model in (fused, explicit):
        cross_entropy_of(model, tiny_batch()).backward()

    assert fused.blocks[3].attn.proj.subspace.ranks == []
    assert len(fused.blocks[3].attn.qkv.subspace.ranks) == 3
    assert len(explicit.blocks[3].attn.proj.subspace.ranks) == 3


def test_layers_whose_weight_is_frozen_are_left_alone():
    model = methods.load("lora+asi").prepare(tiny_model())
    cross_entropy_of(model, tiny_batch()).backward()
    qkv = model.blocks[0].attn.qkv

    assert qkv.base_layer.subspace.ranks == []
    assert len(qkv.lora_A.default.subspace.ranks) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explained": 0.0}, r"explained 0.0 must lie in \(0, 1\]"),
        ({"explained": 1.5}, r"explained 1.5 must lie in \(0, 1\]"),
        ({"ranks": (2, 3)}, r"ranks \(2, 3\) must be three numbers: the ranks of images, tokens"),
        ({"ranks": (2, 0, 3)}, "ranks 0 must be at least 1"),
        ({"explained": 0.5, "ranks": (2, 2, 2)}, r"explained 0.5 and ranks .* are both set"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        methods.load("asi", **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("asi", {"ranks": (2, 3, 129)}, "keep 129 channels, but the widest .* layer has 128"),
        ("asi", {"ranks": (2, 18, 4)}, "keep 18 tokens, but the model has 17"),
        ("head+asi", {}, "no Linear layer of the blocks trains its weight"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_model_is_unsupported(name, options, message):
    chosen = {"asi": options} if "+" in name else options
    with pytest.raises(Unsupported, match=message):
        methods.load(name, **chosen).prepare(tiny_model())


def test_a_recomputed_block_is_unsupported():
    """The recomputation would move the factors once more."""
    with pytest.raises(Unsupported, match="both methods have the kind 'stores activations'"):
        methods.load("checkpoint+asi").prepare(tiny_model())
