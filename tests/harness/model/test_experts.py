"""Mixtures of experts against the slow obvious way, operator by operator and whole."""

import pytest
import torch
from timm.layers import Mlp
from torch import nn
from torch.nn import functional as F

from bsrbench.harness.conformance.subject import tiny_model
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model import vit
from bsrbench.harness.model.experts import ExpertMlp, counted_loads, take_turns
from bsrbench.harness.model.grouped_products import add_biases, add_weights, by_expert
from bsrbench.harness.model.task_heads import TaskHeads, TaskTurn, turn_of, turns

DIM, HIDDEN, EXPERTS, TOP = 6, 10, 5, 2
EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture
def mixture():
    """Return experts that differ from each other, in float64, with gates of two tasks."""
    torch.manual_seed(0)
    made = ExpertMlp(Mlp(DIM, HIDDEN), EXPERTS, TOP, TaskTurn(2)).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)
    return made


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, DIM, generator=generator, dtype=torch.float64, requires_grad=True)


def slowly(mixture, x, task=0):
    """Send one token after the other to one expert after the other."""
    first, second, mixed = mixture.fc1, mixture.fc2, []
    for token in x.flatten(0, 1):
        shares = (mixture.gates[task].weight @ token).softmax(0)
        weights, chosen = shares.topk(TOP)
        total = torch.zeros(DIM, dtype=x.dtype)
        for weight, expert in zip(weights, chosen, strict=True):
            hidden = F.gelu(first.weight[expert] @ token + first.bias[expert])
            total = total + weight * (second.weight[expert] @ hidden + second.bias[expert])
        mixed.append(total)
    return torch.stack(mixed).view(x.shape)


def gradients(output, x, mixture):
    parts = [x, *(p for n, p in mixture.named_parameters() if not n.startswith("gates.1"))]
    wanted = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).double()
    return torch.autograd.grad((output * wanted).sum(), parts)


def test_output_and_every_gradient_are_those_of_a_loop_over_tokens_and_experts(mixture, x):
    expected, found = slowly(mixture, x), mixture(x)

    torch.testing.assert_close(found, expected, **EXACT)
    pairs = zip(gradients(found, x, mixture), gradients(expected, x, mixture), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, **EXACT)


def test_without_gradients_it_computes_the_same(mixture, x):
    expected = mixture(x).detach()
    with torch.no_grad():
        found = mixture(x)

    assert torch.equal(expected, found)


def test_each_task_has_its_gate(mixture, x):
    mixture.turn.task = 1

    torch.testing.assert_close(mixture(x), slowly(mixture, x, task=1), **EXACT)
    assert not torch.allclose(slowly(mixture, x, task=0), slowly(mixture, x, task=1))


def test_an_expert_that_no_token_goes_to_has_a_gradient_of_zeros(mixture, x):
    """Its gate is so far below the others that no token chooses it."""
    with torch.no_grad():
        mixture.gates[0].weight[2] = 0
        x[..., 0] = 1000  # alone decides
        mixture.gates[0].weight[:, 0] = torch.tensor([1.0, 2.0, 0.0, 4.0, 5.0])
    mixture(x).sum().backward()

    assert mixture.fc1.weight.grad[2].abs().sum() == 0
    assert mixture.fc1.weight.grad[4].abs().sum() > 0


def test_weights_are_the_gates_own_and_do_not_add_up_to_one(mixture, x):
    route = mixture.route(x)
    shares = mixture.gates[0](x).flatten(0, 1).softmax(-1).topk(TOP).values

    assert float(route.weight.detach().sum()) == pytest.approx(float(shares.detach().sum()))
    assert route.weight.detach().sum() < 12  # of the tokens


def test_rows_are_sorted_by_expert_and_each_token_has_as_many_as_it_has_experts(mixture, x):
    route = mixture.route(x)

    assert route.ends.diff().min() >= 0
    assert int(route.ends[-1]) == 12 * TOP
    assert route.token.bincount().tolist() == [TOP] * 12


def test_experts_begin_as_copies_of_the_mlp():
    """Of equal experts, the output is the MLP's times what the gate gives the chosen ones."""
    torch.manual_seed(0)
    dense = Mlp(DIM, HIDDEN).double()
    mixture = ExpertMlp(dense, EXPERTS, TOP, TaskTurn(1)).double()
    x = torch.randn(3, 4, DIM, dtype=torch.float64)
    given = mixture.gates[0](x).softmax(-1).topk(TOP).values.sum(-1, keepdim=True)

    torch.testing.assert_close(mixture(x), given * dense(x), **EXACT)


def test_all_experts_of_a_token_are_the_mlp_itself():
    """With top_k all of them, the gate's values add up to 1."""
    torch.manual_seed(0)
    dense = Mlp(DIM, HIDDEN).double()
    x = torch.randn(3, 4, DIM, dtype=torch.float64)

    torch.testing.assert_close(
        ExpertMlp(dense, EXPERTS, EXPERTS, TaskTurn(1)).double()(x), dense(x), **EXACT
    )


def test_gates_are_uniform_within_one_over_the_root_of_the_experts():
    """M3ViT's Kaiming initialisation of a [dim, experts] matrix: 1 / sqrt(16) = 0.25."""
    torch.manual_seed(0)
    mixture = ExpertMlp(Mlp(384, 8), 16, 4, TaskTurn(2))
    largest = [float(gate.weight.detach().abs().max()) for gate in mixture.gates]

    assert largest == pytest.approx([0.25, 0.25], abs=1e-3)


def grouped(counts):
    """Return rows, weights, biases and the ends of groups of so many rows."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(sum(counts), 3, generator=generator)
    weight = torch.randn(len(counts), 4, 3, generator=generator)
    return rows, weight, torch.randn(len(counts), 4, generator=generator), counts


@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 0, 5], [5, 0, 0], [1, 1, 1]], ids=str)
def test_grouped_products_are_products_group_by_group(counts):
    rows, weight, bias, _ = grouped(counts)
    ends = torch.tensor(counts).cumsum(0)
    parts = rows.split(counts)
    expected = torch.cat([p @ w.T + b for p, w, b in zip(parts, weight, bias, strict=True)])

    torch.testing.assert_close(by_expert(rows, weight, bias, ends), expected)
    torch.testing.assert_close(
        by_expert(rows, weight, None, ends),
        torch.cat([p @ w.T for p, w in zip(parts, weight, strict=True)]),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_weights_are_added_group_by_group(dtype):
    counts = [2, 0, 3]
    rows, weight, _, _ = grouped(counts)
    ends = torch.tensor(counts).cumsum(0)
    gradient = torch.randn(5, 4).to(dtype)
    total = torch.ones_like(weight)
    add_weights(total, gradient, rows, ends)
    pairs = zip(gradient.split(counts), rows.to(dtype).split(counts), strict=True)
    products = torch.stack([of_output.T @ own for of_output, own in pairs])

    torch.testing.assert_close(total, 1 + products.float(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        add_biases(gradient, ends, weight),
        torch.stack([part.float().sum(0) for part in gradient.split(counts)]),
    )


def test_loads_are_counted_only_while_asked_for(mixture, x):
    with counted_loads(mixture) as loads:
        mixture(x)
    mixture(x)
    (by_task,) = loads.values()

    assert int(by_task[0].sum()) == 12 * TOP
    assert int(by_task[1].sum()) == 0
    assert by_task[0].tolist() == mixture.route(x).ends.diff(prepend=torch.tensor([0])).tolist()


def test_a_model_gets_a_head_a_task_and_experts_where_asked():
    model = tiny_model()
    take_turns(model, (5, 3), (3, 7), 4, 2)
    images = torch.zeros(2, 3, 32, 32)
    shapes = [tuple(model(images).shape) for _ in turns(model)]

    assert shapes == [(2, 5), (2, 3)]
    assert isinstance(vit.head(model), TaskHeads)
    found = [i for i, b in enumerate(model.blocks) if isinstance(b.mlp, ExpertMlp)]
    assert found == [3, 7]
    assert {b.mlp.turn for b in model.blocks if isinstance(b.mlp, ExpertMlp)} == {turn_of(model)}


def test_after_all_turns_it_is_the_first_ones_again():
    model = tiny_model()
    take_turns(model, (5, 3), (), 4, 2)

    assert list(turns(model)) == [0, 1]
    assert turn_of(model).task == 0
    assert list(turns(tiny_model())) == [0]


@pytest.mark.parametrize("changes", [{"proj_drop_rate": 0.1}, {"scale_mlp_norm": True}], ids=str)
def test_an_mlp_with_more_in_it_is_unsupported(changes):
    with pytest.raises(Unsupported, match="experts are copies of an MLP without"):
        take_turns(tiny_model(**changes), (5, 3), (3,), 4, 2)
