"""Accuracies and losses that are known beforehand, by construction or by a slow obvious way."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import tasks
from bsrbench.harness.workload.data.splits import ImageData
from bsrbench.harness.workload.images.image_order import ImageOrder
from bsrbench.methods import load

LEVELS = (0, 51, 102, 153, 204)  # of grey, one a class: 0, 0.2, 0.4, 0.6 and 0.8 of 255
SCALED = [(level / 255 - 0.5) / 0.5 for level in LEVELS]  # test_vit's mean and deviation are 0.5


class Flat:
    """A split of flat grey images that remembers which of them were read."""

    decodes = False

    def __init__(self, levels, labels):
        self.levels, self.labels, self.reads = levels, torch.tensor(labels), []

    def image(self, index):
        self.reads.append(index)
        return torch.full((3, 8, 8), self.levels[index], dtype=torch.uint8)


def split_of(right, wrong):
    """Return a split of which the reader of grey gets so many images right, in mixed order."""
    shown = [index % 5 for index in range(right + wrong)]
    # The wrong ones are spread over the whole split: their labels are those of the next class.
    lies = {index * (right + wrong) // wrong for index in range(wrong)} if wrong else set()
    labels = [(c + 1) % 5 if index in lies else c for index, c in enumerate(shown)]
    return Flat([LEVELS[c] for c in shown], labels)


class GreyReader(nn.Module):
    """Tells the class from the grey, and in training mode always another one."""

    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        distance = (images.mean((1, 2, 3)).unsqueeze(1) - torch.tensor(SCALED)).abs()
        return self.scale * (distance if self.training else -distance)


class Scalar(nn.Module):
    """One number w: the logits of an image of grey x are w x and -w x."""

    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.w = nn.Parameter(torch.tensor(0.5))

    def forward(self, images):
        product = self.w * images.mean((1, 2, 3))
        return torch.stack([product, -product], 1)


@dataclass(frozen=True)
class Replaces(Method):
    """Put a model of our own in the place of timm's."""

    made: type[nn.Module] = GreyReader
    source = "a test"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return self.made(model)


@pytest.fixture
def images(monkeypatch):
    """Return splits on which the grey reader is right in 20 of 20, 3 of 12 and 91 of 130."""
    found = ImageData(split_of(20, 0), split_of(3, 9), split_of(91, 39))
    monkeypatch.setattr(tasks, "load", lambda *_: (found,))
    return found


def test_the_accuracy_is_the_share_of_the_test_split_that_is_right(make_spec, images):
    """91 of 130 images in three batches of 64, 64 and 2; 3 of 12 on the curve."""
    training = Training(steps=4, learning_rate=1e-3, evaluate_every=2)
    read = training_pass(make_spec(training=training), lambda _: Replaces()).measurements

    assert read["accuracy_top1"] == 91 / 130
    assert read["curve_accuracies"] == [3 / 12, 3 / 12]


def test_a_try_is_read_on_the_validation_split(make_spec, images):
    training = Training(steps=2, learning_rate=1e-3, evaluate="validation")
    read = training_pass(make_spec(training=training), lambda _: Replaces()).measurements

    assert read["validation_accuracy_top1"] == 3 / 12
    assert "accuracy_top1" not in read
    assert images.test.reads == []


def test_the_test_split_is_read_once(make_spec, images):
    """Each image once, however often the curve is read; the curve reads the validation split."""
    training = Training(steps=3, learning_rate=1e-3, evaluate_every=1)
    training_pass(make_spec(training=training), lambda _: Replaces())

    assert images.test.reads == list(range(130))
    assert images.validation.reads == list(range(12)) * 3
    assert len(images.train.reads) == 3 * 4  # steps of four images


# Peak 0.5, end 0.1: half of it in the first of two steps, all of it in the second; then
# 0.1 + 0.4 (1 + cos(pi k / 4)) / 2 for k = 0 to 3, whose cosines are 1, 0.7071, 0, -0.7071.
RATES = [0.25, 0.5, 0.5, 0.4414213562, 0.3, 0.1585786438]
RECIPE = {"steps": 6, "learning_rate": 0.5, "final_learning_rate": 0.1, "warmup_steps": 2}


def slow_training(batches, *, momentum, decay, clip):
    """Return the losses and w of the scalar model, by the derivative worked out on paper.

    With s = 1 for class 0 and -1 for class 1 the loss is log(1 + exp(-2 s w x)), and its
    derivative -2 s x / (1 + exp(2 s w x)). torch adds 1e-6 to a norm that it clips.
    """
    w, velocity, losses = 0.5, 0.0, []
    for rate, batch in zip(RATES, batches, strict=True):
        losses.append(sum(math.log1p(math.exp(-2 * s * w * x)) for x, s in batch) / len(batch))
        slope = sum(-2 * s * x / (1 + math.exp(2 * s * w * x)) for x, s in batch) / len(batch)
        if clip is not None and abs(slope) > clip:
            slope *= clip / abs(slope)
        velocity = momentum * velocity + slope + decay * w
        w -= rate * velocity
    return losses, w


@pytest.mark.parametrize(
    ("momentum", "decay", "clip"), [(0.0, 0.0, None), (0.9, 0.0, None), (0.5, 0.1, 0.2)]
)
def test_a_training_is_what_a_slow_loop_makes_of_it(momentum, decay, clip, make_spec, monkeypatch):
    """Six steps of two images: losses, the last of their means, and the weight, to five digits."""
    train_split = Flat([0, 102, 153, 204, 255], [1, 0, 0, 0, 0])  # the second does not fit w > 0
    found = ImageData(train_split, split_of(5, 0), split_of(5, 0))
    monkeypatch.setattr(tasks, "load", lambda *_: (found,))
    models = []

    def remembers(model):
        models.append(Scalar(model))
        return models[-1]

    spec = make_spec(
        training=Training(**RECIPE, clip_norm=clip),
        batch=2,
        classes=5,
        momentum=momentum,
        weight_decay=decay,
    )
    read = training_pass(spec, lambda _: Replaces(remembers))
    order = ImageOrder(5, spec.seed)  # the third epoch reads no image again: all are prepared
    seen = [
        ((train_split.levels[i] / 255 - 0.5) / 0.5, 1 - 2 * int(train_split.labels[i]))
        for i in (order[position] for position in range(12))
    ]
    losses, w = slow_training(
        [seen[i : i + 2] for i in range(0, 12, 2)], momentum=momentum, decay=decay, clip=clip
    )

    assert train_split.reads == [order[position] for position in range(5)]
    assert list(read.detail.losses) == pytest.approx(losses, rel=1e-5)
    assert read.measurements["final_loss"] == pytest.approx(sum(losses[1:]) / 5, rel=1e-5)
    assert models[0].w.item() == pytest.approx(w, rel=1e-5)
    assert read.measurements["trained_parameters"] == 1


def order_of(make_spec, seed):
    """Return which images two steps of training read, five a step."""
    training = Training(steps=2, learning_rate=1e-3)
    images = ImageData(split_of(10, 0), split_of(5, 0), split_of(5, 0))
    job = begin(make_spec(training=training, seed=seed, batch=5), load)
    train(job, (images,), training)
    return images.train.reads


def test_the_seed_draws_the_order_of_the_images(make_spec):
    orders = [order_of(make_spec, seed) for seed in (0, 1, 2, 0)]

    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3
    assert [sorted(order) for order in orders] == [list(range(10))] * 4


def test_the_seed_draws_the_model(make_spec):
    heads = [begin(make_spec(seed=seed), load).model.head.weight for seed in (0, 1, 0)]

    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])


def test_the_seed_draws_what_a_method_does_at_random(make_spec):
    """Whatever was drawn while the model was made, the generator begins at the trial's seed."""
    drawn = []
    for seed in (0, 1, 0):
        begin(make_spec(seed=seed), load)
        drawn.append(torch.rand(4))
    torch.manual_seed(1)

    assert torch.equal(drawn[1], torch.rand(4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
