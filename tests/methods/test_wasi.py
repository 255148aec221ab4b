"""WASI: two factors train in the place of each weight, and the input is in Tucker form."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance import promises
from bsrbench.harness.conformance.subject import (
    BrokenPromise,
    Subject,
    cross_entropy_of,
    tiny_batch,
    tiny_model,
)
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.stored_weight import FactoredWeight, parameter_numbers
from tests.methods.tucker_by_hand import drawn_starts, low_rank, next_spans, projection

IMAGES, TOKENS, WIDTH = 16, 17, 32
LAYERS = {"attn.qkv": (96, 32), "attn.proj": (32, 32), "mlp.fc1": (128, 32), "mlp.fc2": (32, 128)}


def prepared(**options):
    return methods.load("wasi", **options).prepare(tiny_model())


def layers_of(model, block=3):
    return {name: model.blocks[block].get_submodule(name) for name in LAYERS}


def rank_by_numpy(weight, explained):
    squares = np.linalg.svd(weight.detach().double().numpy(), compute_uv=False) ** 2
    return 1 + int(np.sum(np.cumsum(squares) / squares.sum() < explained))


@pytest.mark.parametrize("explained", [0.3, 0.5, 0.8])
def test_factors_are_the_largest_singular_vectors_and_values(explained):
    whole, model = layers_of(tiny_model()), layers_of(prepared(explained=explained))
    for name, (out, wide) in LAYERS.items():
        weight, layer = whole[name].weight.detach().numpy(), model[name]
        rank = rank_by_numpy(whole[name].weight, explained)
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        product = layer.weight_left @ layer.weight_right

        assert layer.weight_left.shape == (out, rank)
        assert layer.weight_right.shape == (rank, wide)
        np.testing.assert_allclose(product.detach().numpy(), best, atol=1e-5)
        np.testing.assert_allclose(
            (layer.weight_left.T @ layer.weight_left).detach().numpy(), np.eye(rank), atol=1e-5
        )


def test_the_whole_weight_is_gone_and_the_factors_train():
    """Rank 8: 8 (96 + 32) + 8 (32 + 32) + 2 x 8 (128 + 32) numbers per block; 12 blocks."""
    model, whole = prepared(rank=8), tiny_model()
    names = {name for name, _ in model.named_parameters()}
    weights = 12 * (96 * 32 + 32 * 32 + 2 * 128 * 32)
    factors = 12 * (8 * 128 + 8 * 64 + 2 * 8 * 160)
    before = sum(p.numel() for p in whole.parameters())

    assert not {f"blocks.0.{name}.weight" for name in LAYERS} & names
    assert before - weights + factors == sum(p.numel() for p in model.parameters())
    assert before - weights + factors == sum(count for count, _ in parameter_numbers(model))
    assert all(trains for _, trains in parameter_numbers(model))


def test_a_weight_stays_whole_if_its_factors_have_no_fewer_numbers():
    """Rank 16 of 32 x 32: 16 x 64 = 1024 numbers, as many as the weight has. 24 of 96 x 32 also."""
    at_sixteen, at_24 = layers_of(prepared(rank=16)), layers_of(prepared(rank=24))

    assert type(at_sixteen["attn.proj"].weight) is nn.Parameter
    assert isinstance(at_sixteen["attn.qkv"], FactoredWeight)
    assert type(at_24["attn.qkv"].weight) is nn.Parameter
    assert isinstance(at_24["mlp.fc1"], FactoredWeight)  # 24 x 160 of 4096


def test_the_forward_pass_has_the_operations_of_the_factors():
    """Rank 8 in place of in x out: 8 (in + out) multiply-adds per token; the rest is the same."""
    images, _ = tiny_batch()
    counted = []
    for model in (tiny_model(), prepared(rank=8)):
        with StepFlops() as flops, torch.no_grad():
            model(images)
        counted.append(flops.by_phase["forward"])
    saved = 12 * IMAGES * TOKENS * sum(a * b - 8 * (a + b) for a, b in LAYERS.values())

    assert counted[0] - counted[1] == 2 * saved


def one_layer(ranks):
    """Return a layer in float64 and its slowly changing inputs."""
    model = methods.load("wasi", rank=8, ranks=ranks).prepare(tiny_model().double())
    layer, shape = model.blocks[3].mlp.fc1, (6, 17, 32)
    return layer, [low_rank(shape, (2, 3, 4), 0.3, seed=0) + 0.1 * step for step in range(3)]


@pytest.mark.parametrize("ranks", [(16, 17, 128), (2, 4, 5)], ids=str)
def test_gradients_of_the_factors_are_those_of_the_projected_input(ranks):
    """With full ranks they are exact: dL = dY^T X R^T and dR = (dY L)^T X."""
    layer, inputs = one_layer(ranks)
    clipped = tuple(min(rank, n) for rank, n in zip(ranks, (6, 17, 32), strict=True))
    spans = drawn_starts((6, 17, 32), clipped, seed=3)
    torch.manual_seed(3)
    for x in inputs:
        layer.zero_grad()
        output = layer(x.requires_grad_(True))
        left, right = (part.detach().numpy() for part in layer.parts().values())
        of_output = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output).cos()
        output.backward(of_output)
        spans = next_spans(x.detach().numpy(), spans)
        near, dy = projection(x.detach().numpy(), spans), of_output.numpy()

        of_left = np.einsum("bno,bnc->oc", dy, near) @ right.T
        of_right = np.einsum("bnk,bnc->kc", dy @ left, near)
        np.testing.assert_allclose(of_left, layer.weight_left.grad.numpy(), atol=1e-9)
        np.testing.assert_allclose(of_right, layer.weight_right.grad.numpy(), atol=1e-9)
        np.testing.assert_allclose(dy @ left @ right, x.grad.numpy(), atol=1e-9)
        np.testing.assert_allclose(dy.sum((0, 1)), layer.bias.grad.numpy(), atol=1e-9)


def test_only_what_trains_gets_factors():
    model = methods.load("bsr+wasi", wasi={"rank": 6}).prepare(tiny_model())
    factored = [
        index
        for index, block in enumerate(model.blocks)
        for part in block.modules()
        if isinstance(part, FactoredWeight)
    ]

    assert factored == [3] * 4 + [7] * 4 + [11] * 4
    assert all(
        part.weight_left.requires_grad
        for part in model.modules()
        if isinstance(part, FactoredWeight)
    )


def test_frozen_weights_are_stored_in_eight_bits_beside_the_factors():
    model = methods.load("bsr+wasi+int8w", wasi={"rank": 6}).prepare(tiny_model())

    assert isinstance(model.blocks[3].mlp.fc1, FactoredWeight)
    assert model.blocks[3].mlp.fc1.weight_left.dtype == torch.float32
    assert model.blocks[4].mlp.fc1.weight_codes.dtype == torch.int8


def test_factors_of_another_rank_can_be_loaded():
    saved, model = prepared(rank=5), prepared(rank=7)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    parameter = model.blocks[0].mlp.fc1.weight_left
    model.load_state_dict(torch.load(file, weights_only=True))

    assert model.blocks[0].mlp.fc1.weight_left is parameter
    assert parameter.shape == (128, 5)
    assert torch.equal(saved(tiny_batch()[0]), model(tiny_batch()[0]))


def test_a_product_that_is_no_projection_of_the_weight_breaks_a_promise(monkeypatch):
    """Factors may be far from a weight, but cannot stand for another one."""
    svd = torch.linalg.svd

    def wrong(weight, **settings):
        left, values, right = svd(weight, **settings)
        return left.flip(1), values, right

    subject = Subject("wasi", methods.find, methods.load)
    promises.keeps_the_parameters(subject)
    monkeypatch.setattr(torch.linalg, "svd", wrong)
    with pytest.raises(BrokenPromise, match="lost or copied parameters"):
        promises.keeps_the_parameters(subject)


def test_added_operations_are_not_known_if_those_of_one_part_are_not():
    assert methods.load("prompt").added_macs((17,) * 12, 32) > 0
    assert methods.load("prompt+wasi").added_macs((17,) * 12, 32) is None


def test_a_training_learns():
    model = prepared(rank=6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = cross_entropy_of(model, tiny_batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explained": -1.0}, "explained -1.0 must lie"),
        ({"rank": 0}, "rank 0 must be at least 1"),
        ({"ranks": (1, 2)}, "must be three numbers"),
        ({"explained": 0.5, "rank": 4, "ranks": (2, 2, 2)}, "leave nothing to choose"),
        ({"explained": 2.0, "ranks": (2, 2, 2)}, "explained 2.0 must lie"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        methods.load("wasi", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 30}, "no weight becomes smaller: .* for all 48 trained weights of the blocks"),
        ({"rank": 33}, r"rank = 33, but a weight of shape \[96, 32\] has at most the rank 32"),
        ({"ranks": (2, 18, 4)}, "keep 18 tokens, but the model has 17"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_model_is_unsupported(options, message):
    with pytest.raises(Unsupported, match=message):
        prepared(**options)
