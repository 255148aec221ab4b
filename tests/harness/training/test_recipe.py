"""What a recipe asks for is what the step does."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from bsrbench.harness.model import vit
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_loop import learning_rate_at, train
from bsrbench.harness.training.training_step import optimizer_step, set_learning_rate
from bsrbench.harness.workload import data, models
from bsrbench.methods import load


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 64, 64, generator=generator), torch.tensor([0, 1, 2, 3])


def recipe(**settings):
    return Training(**{"steps": 3, "learning_rate": 1e-3} | settings)


def test_label_smoothing_is_in_the_loss(make_spec, images):
    job = begin(make_spec(training=recipe(label_smoothing=0.3)), load)
    set_learning_rate(job, 0.0)
    with torch.no_grad():
        logits = job.model(images[0])
        expected = 0.7 * cross_entropy(logits, images[1]) - 0.3 * logits.log_softmax(1).mean()

    torch.testing.assert_close(expected, optimizer_step(job, *images))


@pytest.mark.parametrize("head", ["drawn", "zero", "tiny"])
def test_the_head_begins_as_asked(head, make_spec):
    weight = begin(make_spec(training=recipe(head=head)), load).model.head.weight
    plain = begin(make_spec(), load).model.head.weight

    if head == "drawn":
        assert torch.equal(plain, weight)
    else:
        assert weight.abs().max() <= {"zero": 0.0, "tiny": 1.2e-4}[head]
        assert (weight.std() > 1e-5) == (head == "tiny")


def test_a_tiny_head_begins_without_biases(make_spec):
    """Timm's own heads begin so, too; let this one begin otherwise."""
    model = begin(make_spec(), load).model
    torch.nn.init.ones_(model.head.bias)
    models.begin_head(model, "tiny")

    assert not model.head.bias.any()
    assert model.head.weight.any()


@pytest.mark.parametrize("in_backward", [False, True])
def test_layers_learn_at_their_share_of_the_rate(in_backward, make_deep_spec):
    """BEiT's rule on twelve blocks: block i at decay ** (12 - i), embeddings at decay ** 13."""
    spec = make_deep_spec(layer_decay=0.5, optimizer_in_backward=in_backward)
    job = begin(spec, load)
    set_learning_rate(job, 2.0)
    rate = {
        id(parameter): group["lr"]
        for optimizer in job.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    model = job.model

    assert rate[id(model.head.weight)] == 2.0
    assert rate[id(model.blocks[11].mlp.fc1.weight)] == pytest.approx(2.0 * 0.5)
    assert rate[id(model.blocks[3].attn.qkv.bias)] == pytest.approx(2.0 * 0.5**9)
    assert rate[id(model.patch_embed.proj.weight)] == pytest.approx(2.0 * 0.5**13)
    assert rate[id(model.pos_embed)] == pytest.approx(2.0 * 0.5**13)


@pytest.mark.parametrize("method", ["full", "head", "bias", "lora", "bsr", "bsr+int8"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_the_head_learns_at_its_own_factor(layer_decay, method, make_deep_spec):
    """The head has factor 10; without it, its rate would be the whole rate of 2."""
    rates = {}
    for factor in (1.0, 10.0):
        job = begin(make_deep_spec(method, layer_decay=layer_decay, head_rate_factor=factor), load)
        set_learning_rate(job, 2.0)
        of_head = {id(parameter) for parameter in vit.head(job.model).parameters()}
        rates[factor] = [
            sorted(
                group["lr"]
                for group in job.optimizers[0].param_groups
                for parameter in group["params"]
                if (id(parameter) in of_head) == in_head
            )
            for in_head in (True, False)
        ]

    assert rates[1.0][0] == [2.0, 2.0]
    assert rates[10.0][0] == [20.0, 20.0]
    assert rates[10.0][1] == rates[1.0][1]


def test_a_frozen_layer_has_no_rate(make_deep_spec):
    job = begin(make_deep_spec("bsr", layer_decay=0.5), load)

    assert {id(p) for p in job.trained()} == {
        id(p) for p in job.model.parameters() if p.requires_grad
    }


def test_vectors_are_decayed_only_where_asked(make_spec):
    for decay_vectors in (True, False):
        job = begin(make_spec(weight_decay=0.1, decay_vectors=decay_vectors), load)
        (optimizer,) = job.optimizers
        decay = {
            id(parameter): group["weight_decay"]
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        model = job.model

        assert decay[id(model.head.weight)] == 0.1
        for parameter in (model.head.bias, model.norm.weight, model.cls_token, model.pos_embed):
            assert decay[id(parameter)] == (0.1 if decay_vectors else 0.0)


def test_the_schedule_ends_where_asked():
    settings = recipe(steps=1000, final_learning_rate=1e-4)

    assert learning_rate_at(0, settings) == pytest.approx(1e-3)
    assert learning_rate_at(500, settings) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate_at(999, settings) == pytest.approx(1e-4, rel=1e-2)


def test_the_curve_is_read_on_the_validation_split(make_spec):
    settings = recipe(steps=5, evaluate_every=2)
    job = begin(make_spec(training=settings), load)
    progress = train(job, (data.load("noise", 5, 0),), settings)

    assert progress.curve_steps == [2, 4]
    assert progress.curve_seconds == sorted(progress.curve_seconds)
    assert all(0 <= share <= 1 for share in progress.curve_accuracies)
    assert progress.curve_seconds[-1] < progress.seconds


def test_reading_the_curve_changes_no_training(make_spec):
    losses = []
    for every in (None, 1):
        settings = recipe(evaluate_every=every, augmentation="crop-flip")
        job = begin(make_spec("int8", training=settings), load)
        losses.append(train(job, (data.load("noise", 5, 0),), settings).losses)

    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"final_learning_rate": 1.0}, "final_learning_rate 1 is above learning_rate 0.001"),
        ({"crop_scale": [0.9, 0.1]}, r"crop_scale \[0.9, 0.1\] must be \[least, largest\]"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"augmentation": "flip"}, "'none', 'crop' or 'crop-flip'"),
        ({"evaluate_every": 0}, "greater than or equal to 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        recipe(**settings)
