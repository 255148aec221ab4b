"""A distilled model has two heads: both train, and their mean is what loss and accuracy read."""

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.model import vit
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_step import training_step
from bsrbench.harness.workload import models

DEIT = "deit_tiny_distilled_patch16_224"
PIT = "pit_ti_distilled_224"
VOLO = "volo_d1_224"  # its second head reads the patches
# Both heads map the last width, 192 of DeiT-Ti, 256 of PiT-Ti, 384 of VOLO-D1, to 10 classes.
SIZES = {DEIT: 2 * (192 * 10 + 10), PIT: 2 * (256 * 10 + 10), VOLO: 2 * (384 * 10 + 10)}
# DeiT-Ti: 12 blocks, C = 192, 2 heads of 1,930 each.
TRAINED = {
    "head": 3860,
    "norm": 25 * 2 * 192 + 3860,
    "bias": 12 * 11 * 192 + 2 * 192 + 20 + 2 * 1920,
    "lora": 12 * 8 * (192 + 576) + 3860,
    "adapter": 12 * (2 * 192 * 64 + 64 + 192) + 3860,
    "prompt": 12 * 5 * 192 + 3860,
}


def outline(name, **changes):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=10, **changes)


@pytest.mark.parametrize("name", [DEIT, PIT, VOLO, "efficientformer_l1", "swiftformer_xs"])
def test_the_head_is_all_that_makes_logits(name):
    """Timm's settings name both by their places in the model."""
    model = outline(name)
    places = tuple(f"{place}." for place in model.pretrained_cfg["classifier"])
    expected = {n for n, _ in model.named_parameters() if n.startswith(places)}
    own = {id(p) for p in vit.head(model).parameters()}

    assert expected == {n for n, p in model.named_parameters() if id(p) in own}


@pytest.mark.parametrize("name", SIZES)
def test_a_probe_trains_both(name):
    prepared = methods.load("head").prepare(outline(name))

    assert SIZES[name] == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", TRAINED)
def test_methods_that_freeze_train_both_heads(method):
    prepared = methods.load(method).prepare(outline(DEIT, img_size=32))

    assert TRAINED[method] == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", ["full", "head", "lora", "ladder", "prompt", "checkpoint"])
def test_a_step_moves_both_heads(method, make_spec):
    spec = make_spec(method, model=DEIT, image_size=32)
    job = begin(spec, methods.load)
    before = {n: p.detach().clone() for n, p in job.model.named_parameters() if "head" in n}
    for optimizer in job.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.1
    training_step(job, torch.randn(4, 3, 32, 32), torch.arange(4))
    still = [
        n for n, p in job.model.named_parameters() if n in before and torch.equal(before[n], p)
    ]

    assert len(before) == 4
    assert still == []


def test_the_loss_is_that_of_the_mean_of_both_heads_logits(make_spec):
    job = begin(make_spec(model=DEIT, image_size=32), methods.load)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    tokens = job.model.forward_features(images)
    mean = (job.model.head(tokens[:, 0]) + job.model.head_dist(tokens[:, 1])) / 2
    expected = cross_entropy(mean, labels).item()

    assert expected == pytest.approx(training_step(job, images, labels), rel=1e-6)


def test_both_heads_begin_at_zero_where_one_would(make_spec):
    training = Training(steps=1, learning_rate=1e-3, head="zero")
    model = begin(make_spec(model=DEIT, image_size=32, training=training), methods.load).model

    assert not any(p.any() for p in (*model.head.parameters(), *model.head_dist.parameters()))


def test_a_model_of_two_heads_is_given_no_tasks():
    multitask = MultiTask(tasks=("digits", "noise"), classes=(10, 10), expert_blocks=())
    workload = Workload(model=DEIT, batch=2, image_size=32, multitask=multitask)

    with pytest.raises(BadInput, match="does not support several tasks: the model has two heads"):
        models.outline(workload, (10, 10))
