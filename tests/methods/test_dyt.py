"""DyT: dispatchers, the loss of two passes, and what evaluation saves, against the slow way."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.conformance.subject import terms
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.meters.step_flops import StepFlops

HEAD = 32 * 5 + 5
DEPTH, TOKENS, WIDTH = 12, 17, 32
MLP_MACS = 2 * WIDTH * 4 * WIDTH  # of one token


def prepared(make_vit, **options):
    """Return a model in float64 whose bottlenecks and dispatchers do something."""
    model = methods.load("dyt", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    for block in model.blocks:
        torch.nn.init.normal_(block.adapter.up.weight, std=0.1)
        torch.nn.init.normal_(block.adapter.up.bias, std=0.1)
        torch.nn.init.normal_(block.dispatcher.weight, std=1.0)
        torch.nn.init.normal_(block.dispatcher.bias, std=0.5)
    return model


def written_out(model, images, choose, scale=0.1):
    """Return logits; ``choose`` maps logits [batch, 16] of a block to factors of its MLP."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    for block in model.blocks:
        x = x + block.attn(block.norm1(x))
        branch, mlp = block.adapter, block.mlp
        inner = (x @ branch.down.weight.T + branch.down.bias).clamp(min=0)
        adapted = scale * (inner @ branch.up.weight.T + branch.up.bias)
        wide = F.gelu(block.norm2(x) @ mlp.fc1.weight.T + mlp.fc1.bias)
        outputs = wide @ mlp.fc2.weight.T + mlp.fc2.bias
        logits = x[:, 1:] @ block.dispatcher.weight[0] + block.dispatcher.bias
        passes = torch.cat([torch.ones(len(x), 1), choose(logits)], dim=1)
        x = x + adapted + passes.unsqueeze(-1) * outputs
    return model.head(model.norm(x)[:, 0])


def all_pass(logits):
    return torch.ones_like(logits)


def straight_through(rates):
    """Return the choice in training; it adds the share of each block to ``rates``."""

    def choose(logits):
        uniform = torch.rand(*logits.shape, 1, dtype=logits.dtype).squeeze(-1)
        noise = uniform.log() - (1 - uniform).log()
        soft = 1 / (1 + (-(logits + noise) / 5).exp())
        hard = torch.where(soft > 0.5, 1.0, 0.0)
        rates.append((hard + soft - soft.detach()).mean())
        return hard + soft - soft.detach()

    return choose


@pytest.mark.parametrize("options", [{}, {"rate": 0.3, "least_rate": 0.6, "scale": 2.0}], ids=str)
def test_the_terms_of_the_loss_and_their_gradients_are_those_of_the_formula(
    options, make_vit, batch
):
    """Of both passes; a least rate of 0.6 is above what some blocks choose."""
    images, labels = batch[0].double(), batch[1]
    model = prepared(make_vit, **options)
    trained = [p for p in model.parameters() if p.requires_grad]
    scale, rate = options.get("scale", 0.1), options.get("rate", 0.5)
    rates = []
    torch.manual_seed(3)
    found = list(terms(methods.load("dyt", **options), model, (images, labels)))
    torch.manual_seed(3)
    complete = written_out(model, images, all_pass, scale)
    dynamic = written_out(model, images, straight_through(rates), scale)
    teacher, pupil = complete.detach().softmax(1), dynamic.softmax(1)
    apart = (teacher * (teacher.log() - pupil.log())).sum(1).mean()
    shares = torch.stack(rates)
    short = sum((options.get("least_rate", 0.1) - share).clamp(min=0) for share in rates)
    penalty = 2 * ((shares.mean() - rate) ** 2 + short)
    expected = [cross_entropy(complete, labels), cross_entropy(dynamic, labels) + apart + penalty]

    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=0, atol=1e-11)
    torch.testing.assert_close(
        torch.autograd.grad(sum(found), trained), torch.autograd.grad(sum(expected), trained)
    )
    assert bool((short > 0) == bool(options))
    assert bool(((shares > 0.05) & (shares < 0.95)).all())


def test_evaluation_computes_what_the_choice_without_noise_gives(make_vit, batch):
    images = batch[0].double()
    model = prepared(make_vit).eval()
    shares = []

    def choose(logits):
        chosen = (logits.sigmoid() > 0.5).double()
        shares.append(chosen.mean())
        return chosen

    state = torch.get_rng_state()
    torch.testing.assert_close(
        model(images), written_out(model, images, choose), rtol=0, atol=1e-11
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert 0.1 < min(shares)
    assert max(shares) < 0.9


@pytest.mark.parametrize("chosen", [0, 16], ids=["none", "all"])
def test_all_or_no_patches_may_pass(chosen, make_vit, batch):
    images = batch[0].double()
    model = prepared(make_vit).eval()
    for block in model.blocks:
        torch.nn.init.constant_(block.dispatcher.bias, 1e6 if chosen else -1e6)
    expected = written_out(model, images, lambda logits: torch.full_like(logits, chosen / 16))

    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-11)


def test_tokens_are_chosen_as_often_as_with_gumbel_noise(make_vit):
    """With a logit of b, a token passes as often as b plus a difference of two Gumbel numbers > 0.

    That is with probability sigmoid(b), whatever the temperature.
    """
    block = methods.load("dyt").prepare(make_vit()).blocks[0]
    torch.nn.init.zeros_(block.dispatcher.weight)
    torch.manual_seed(0)
    for logit in (-2.0, 0.0, 1.0):
        torch.nn.init.constant_(block.dispatcher.bias, logit)
        with torch.no_grad():
            chosen = block._choices(torch.ones(800, TOKENS, WIDTH))[:, 1:]
        gumbel = -(-torch.rand(2, chosen.numel()).log()).log()
        right = float((logit + gumbel[0] - gumbel[1] > 0).float().mean())

        # Four standard errors of the difference of two means over 12,800 draws: 4 x 0.7 / 113.
        assert abs(float(chosen.mean()) - right) < 0.025
        assert abs(right - 1 / (1 + 2.71828**-logit)) < 0.018


@pytest.mark.parametrize(("options", "inner"), [({}, 64), ({"bottleneck": 8}, 8)])
def test_trains_dispatchers_bottlenecks_and_head(options, inner, make_vit):
    """A block: 32 weights and a bias of the dispatcher, 2 x 32 x 64 weights, 64 + 32 biases."""
    model = methods.load("dyt", **options).prepare(make_vit())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = DEPTH * (32 + 1 + 2 * 32 * inner + inner + 32) + HEAD

    assert expected == sum(p.numel() for p in trained.values())
    assert all(
        ".adapter." in name or ".dispatcher." in name or name.startswith("head.")
        for name in trained
    )


def test_dispatchers_start_as_in_the_official_code(make_vit):
    model = methods.load("dyt").prepare(make_vit())
    weights = torch.cat([block.dispatcher.weight.detach() for block in model.blocks])

    assert 0.017 < float(weights.std()) < 0.023
    assert not any(bool(block.dispatcher.bias.any()) for block in model.blocks)
    assert not any(bool(block.adapter.up.weight.any()) for block in model.blocks)


def test_declares_the_multiply_adds_it_brings(make_vit, batch):
    """Of a forward pass in training: 17 tokens, 2 x 32 x 64 and 32 for the dispatcher."""
    method = methods.load("dyt")
    flops = []
    for model in (make_vit(), method.prepare(make_vit())):
        with StepFlops() as counted:
            model.train()(batch[0][:1])
        flops.append(counted.by_phase["forward"])
    expected = DEPTH * TOKENS * (2 * 32 * 64 + 32)

    assert expected == method.added_macs(method.tokens(TOKENS), WIDTH)
    assert 2 * expected == flops[1] - flops[0]


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
def test_evaluation_does_the_mlp_of_the_chosen_tokens_alone(rate, make_vit, batch):
    """Settled on one image, 16 x rate patches and the class token pass each of the 12 MLPs."""
    image = batch[0][:1]
    method = methods.load("dyt", rate=rate)
    model = method.prepare(make_vit())
    with torch.no_grad():
        method.settle(model, image)
    plain = forward_macs(make_vit(), image).total
    left_out = DEPTH * (16 - int(16 * rate)) * MLP_MACS
    expected = plain + DEPTH * TOKENS * (2 * 32 * 64 + 32) - left_out

    assert forward_macs(model, image).total == expected
    with StepFlops() as counted, torch.no_grad():
        model.eval()(image)
    assert counted.by_phase["forward"] == 2 * expected


def test_settling_changes_biases_alone_and_draws_nothing(make_vit, batch):
    method = methods.load("dyt")
    model = method.prepare(make_vit()).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    with torch.no_grad():
        method.settle(model, batch[0])
    moved = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}

    assert moved == {f"blocks.{index}.dispatcher.bias" for index in range(DEPTH)}
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_registers_always_pass(make_vit, batch):
    model = methods.load("dyt").prepare(make_vit(reg_tokens=3)).eval()
    seen = []
    for block in model.blocks:
        torch.nn.init.constant_(block.dispatcher.bias, -1e6)
        block.mlp.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    model(batch[0])

    assert seen == [len(batch[0]) * 4] * DEPTH


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.0}, r"rate 0.0 must lie in \(0, 1\]"),
        ({"rate": 1.5}, r"rate 1.5 must lie in \(0, 1\]"),
        ({"least_rate": -0.1}, r"least_rate -0.1 must lie in \[0, 1\]"),
        ({"least_rate": 1.1}, r"least_rate 1.1 must lie in \[0, 1\]"),
        ({"bottleneck": 0}, "bottleneck 0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout 1.0 must lie in \[0, 1\)"),
        ({"scale": 0.0}, "scale 0 leaves the bottleneck without effect"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("dyt", **options)
