"""Crops and pixels are those of torchvision's transform under the global generator."""

import itertools

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.workload.images.preprocess import Preprocess
from bsrbench.harness.workload.images.random_crops import Crop, random_crop

SIZES = [(8, 8), (32, 32), (31, 47), (64, 17), (1, 1), (1, 40), (300, 20), (5, 400)]
SCALES = [(0.08, 1.0), (0.3, 1.0), (1.0, 1.0), (0.25, 0.25)]


def crop_of_torchvision(image, scale, seed):
    """Return the crop that torchvision draws and, from the same generator, whether it is flipped.

    Args:
        image: uint8 [3, height, width].
        scale: smallest and largest area of the crop.
        seed: seed of the global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        box = v2.RandomResizedCrop(8, scale).make_params([image])
        return Crop(**box, flipped=bool(torch.rand(()) < 0.5))


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_seed_draws_the_box_and_the_flip_of_torchvision(size, scale):
    image = torch.empty(3, *size, dtype=torch.uint8)
    seeds = [*range(150), 2**31, 2**32 - 1]
    expected = [crop_of_torchvision(image, scale, seed) for seed in seeds]

    assert [random_crop(*size, scale, seed, flips=True) for seed in seeds] == expected


def test_a_box_that_fits_in_no_attempt_is_the_middle_of_the_image():
    """All of a 10 by 100 image at ratio 4/3 is 13 px wide, and (100 - 13) // 2 px from the left."""
    assert random_crop(10, 100, (1.0, 1.0), 0, flips=False) == Crop(0, 43, 10, 13)
    assert random_crop(100, 10, (1.0, 1.0), 0, flips=False) == Crop(43, 0, 13, 10)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    random_crop(32, 32, (0.08, 1.0), 7, flips=True)

    assert torch.equal(torch.get_rng_state(), before)


def slow_training(image, side, settings, seed):
    """Return a training image [3, side, side] the slow way: torchvision's transform as a whole."""
    mode = v2.InterpolationMode(settings.interpolation)
    crop = v2.RandomResizedCrop(side, settings.crop_scale, interpolation=mode, antialias=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cropped = crop(image)
        if settings.augmentation == "crop-flip" and torch.rand(()) < 0.5:
            cropped = transform.horizontal_flip(cropped)
    return cropped


def slow_evaluation(image, side, settings):
    """Return an evaluation image [3, side, side] the slow way: by two transforms."""
    mode = v2.InterpolationMode(settings.interpolation)
    if settings.evaluation_crop == "resize":
        return v2.Resize([side, side], mode, antialias=True)(image)
    return v2.CenterCrop(side)(v2.Resize(side, mode, antialias=True)(image))


def images_of(height, width):
    """Return one noisy image [3, height, width] in two memory formats, and a grey one."""
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    rows = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return [image, rows, image[:1].expand(3, -1, -1)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (24, 24), (31, 47), (90, 17)], ids=str)
def test_pixels_are_those_of_torchvisions_transforms(size, interpolation):
    """For images smaller and larger than the side, and of the side, in every memory format."""
    side = 24
    crops = itertools.product(("crop", "crop-flip"), ((0.08, 1.0), (1.0, 1.0)))
    for image in images_of(*size):
        for augmentation, scale in crops:
            settings = Training(
                steps=1,
                learning_rate=1.0,
                augmentation=augmentation,
                crop_scale=scale,
                interpolation=interpolation,
            )
            way = Preprocess(side, (0.5,) * 3, (0.5,) * 3, settings)
            for seed in range(20):
                assert torch.equal(
                    way.training(image, seed), slow_training(image, side, settings, seed)
                )
        for cut in ("resize", "centre"):
            settings = Training(
                steps=1, learning_rate=1.0, evaluation_crop=cut, interpolation=interpolation
            )
            way = Preprocess(side, (0.5,) * 3, (0.5,) * 3, settings)
            expected = slow_evaluation(image, side, settings)

            assert torch.equal(way.evaluation(image), expected)
            assert torch.equal(way.training(image, 0), expected)
