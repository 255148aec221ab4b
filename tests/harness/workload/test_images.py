"""Images on their way into a model: the same for the same seed, however they are prepared."""

import pytest
import torch

from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.workload import data
from bsrbench.harness.workload.data.splits import InMemory
from bsrbench.harness.workload.images.batches import EvaluationBatches, TrainingBatches
from bsrbench.harness.workload.images.image_order import ImageOrder
from bsrbench.harness.workload.images.kept_images import Room
from bsrbench.harness.workload.images.prefetch import by_threads, in_order
from bsrbench.harness.workload.images.preprocess import Preprocess

RECIPE = {"steps": 1, "learning_rate": 1e-3}
CPU = torch.device("cpu")


def preprocess(side=8, **settings):
    training = Training(**RECIPE | settings)
    return Preprocess(side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), training)


def training_batches(split, way, seed, steps, size, workers=0):
    return in_order(TrainingBatches(split, way, seed, size), steps, CPU, workers)


def evaluation_batches(split, way, size):
    batches = EvaluationBatches(split, way, size)
    return in_order(batches, range(len(batches)), CPU, 0)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 12, 16), generator=generator, dtype=torch.uint8)
    return InMemory(images, torch.arange(10))


def test_flat_pixels_stay_flat_and_are_normalised():
    flat = torch.full((3, 8, 6), 255, dtype=torch.uint8)
    for way in (preprocess(12), preprocess(12, evaluation_crop="centre")):
        resized = way.evaluation(flat).unsqueeze(0)

        torch.testing.assert_close(way.normalise(resized), torch.full((1, 3, 12, 12), 2.0))


def test_resizing_squeezes_and_centre_cuts():
    """A picture twice as wide as high, its left and right quarters white."""
    image = torch.zeros(3, 8, 16, dtype=torch.uint8)
    image[:, :, :4] = image[:, :, 12:] = 255
    squeezed = preprocess(interpolation="bilinear").evaluation(image)
    centre = preprocess(evaluation_crop="centre", interpolation="bilinear").evaluation(image)

    assert squeezed[0, 4, 0] == squeezed[0, 4, 7] == 255
    assert int(centre.max()) == 0


def test_every_image_is_visited_once_an_epoch_and_epochs_differ():
    order = ImageOrder(10, seed=3)
    epochs = [[order[10 * epoch + i] for i in range(10)] for epoch in range(3)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [ImageOrder(10, seed=3)[25], order[25]] == [epochs[2][5]] * 2
    assert [ImageOrder(10, seed=4)[i] for i in range(10)] != epochs[0]


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip"])
def test_batches_do_not_depend_on_workers_or_on_where_they_begin(augmentation, split):
    way = preprocess(augmentation=augmentation)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    alone = list(training_batches(split, way, 1, range(5), 4))
    with_processes = list(training_batches(split, way, 1, range(5), 4, workers=2))
    batches = TrainingBatches(split, way, 1, 4, room=Room(10**6))
    with_threads = list(by_threads(batches, range(5), 3, lambda batch: lambda: batch))
    later = list(training_batches(split, way, 1, range(3, 5), 4))

    assert torch.equal(before, torch.get_rng_state())
    others = with_processes + with_threads + later
    for one, other in zip(alone * 2 + alone[3:], others, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_the_same_image_is_cropped_anew_in_every_epoch(split):
    way = preprocess(augmentation="crop")
    one = InMemory(split.images[:1], split.labels[:1])
    first, second = training_batches(one, way, 0, range(2), 1)

    assert not torch.equal(first[0], second[0])


def test_half_of_the_crops_are_mirrored():
    """A ramp from left to right stays one, or becomes one from right to left."""
    ramp = torch.linspace(0, 255, 64).to(torch.uint8).expand(3, 64, 64)
    way = preprocess(augmentation="crop-flip", crop_scale=(0.5, 1.0))
    rising = [
        bool(crop[0, 4, 0] < crop[0, 4, 7]) for crop in (way.training(ramp, s) for s in range(200))
    ]

    assert 70 < sum(rising) < 130  # the standard deviation is 7
    assert all(
        way.training(ramp, s)[0, 4, 0] < way.training(ramp, s)[0, 4, 7]
        for s in range(20)
        for way in [preprocess(augmentation="crop")]
    )


def test_crops_keep_to_their_scale():
    """A crop of a quarter of a ramp's area spans at most its width times sqrt(4/3 / 4)."""
    ramp = torch.linspace(0, 255, 256).to(torch.uint8).expand(3, 256, 256)
    way = preprocess(64, augmentation="crop", crop_scale=(0.25, 0.25))
    spans = [
        int(crop.max()) - int(crop.min()) for crop in (way.training(ramp, s) for s in range(50))
    ]

    assert max(spans) <= 255 * (4 / 3 / 4) ** 0.5 + 3
    assert min(spans) >= 255 * (3 / 4 / 4) ** 0.5 - 3


def test_evaluation_reads_every_image_in_order(split):
    batches = list(evaluation_batches(split, preprocess(), 4))

    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10))


def test_evaluation_augments_nothing(split):
    way = preprocess(augmentation="crop-flip")
    ((images, _),) = evaluation_batches(split, way, 10)

    assert torch.equal(images, torch.stack([way.evaluation(image) for image in split.images]))


def test_noise_has_a_batch_for_every_class():
    found = data.load("noise", 5, 0)
    (images, labels), *_ = training_batches(found.train, preprocess(), 0, range(1), 5)

    assert images.shape == (5, 3, 8, 8)
    assert labels.shape == (5,)
