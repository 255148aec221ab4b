"""Turn stored images into a model's input: augmented for training, plain for evaluation."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.workload.data import Split

SEED_BYTES = 4  # limit of torch's CPU generator
WORKERS = "BSRBENCH_WORKERS"
Image = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Preprocess:
    """How stored images become a model's input.

    Attributes:
        side: side of the square input in pixels.
        mean: mean of the pixels, one value per channel.
        deviation: standard deviation of the pixels, one value per channel.
        settings: settings of the training; ``None`` if nothing is trained.
    """

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    settings: Training | None = None

    def training(self, image: Tensor, seed: int) -> Tensor:
        """Return an image of any size as uint8 [3, side, side], augmented at random by a seed."""
        settings = self.settings
        if settings is None or settings.augmentation == "none":
            return self.evaluation(image)
        crop = v2.RandomResizedCrop(
            self.side, settings.crop_scale, interpolation=self._interpolation(), antialias=True
        )
        # torchvision uses the global random generator, whose state must not change here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cropped: Tensor = crop(image)
            if settings.augmentation == "crop-flip" and torch.rand(()) < 0.5:  # noqa: PLR2004 - a coin
                cropped = transform.horizontal_flip(cropped)
        return cropped

    def evaluation(self, image: Tensor) -> Tensor:
        """Return an image of any size as uint8 [3, side, side], without augmentation."""
        centre = self.settings is not None and self.settings.evaluation_crop == "centre"
        size = [self.side] if centre else [self.side, self.side]
        resized: Tensor = transform.resize(
            image, size, interpolation=self._interpolation(), antialias=True
        )
        if not centre:
            return resized
        cut: Tensor = transform.center_crop(resized, [self.side, self.side])
        return cut

    def normalise(self, images: Tensor) -> Tensor:
        """Convert uint8 [n, 3, side, side] to fp32, and normalise each channel.

        Pixels are divided by 255; then the mean is subtracted, and the result is divided by the
        standard deviation.
        """
        shape = (1, -1, 1, 1)
        shift = images.new_tensor(self.mean, dtype=torch.float32).view(shape)
        width = images.new_tensor(self.deviation, dtype=torch.float32).view(shape)
        return images.to(torch.float32).div_(255).sub_(shift).div_(width)

    def _interpolation(self) -> v2.InterpolationMode:
        named = self.settings.interpolation if self.settings is not None else "bicubic"
        return v2.InterpolationMode(named)


class ImageOrder:
    """The image index at each position of an endless training, with a new order per epoch.

    The image at a position depends only on the seed, so training can be resumed from any step.

    Args:
        count: number of images.
        seed: seed of the trial.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __getitem__(self, position: int) -> int:
        """Return the index of the image at a position."""
        epoch, place = divmod(position, self._count)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_seed_of("order", self._seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self._count, generator=generator)
        return int(self._order[place])


def _seed_of(*parts: object) -> int:
    """Return a pseudo-random seed that depends only on the parts."""
    text = " ".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=SEED_BYTES).digest())


class _Trained(Dataset[Image]):
    """Images by position, augmented at random; the result depends on the seed and the position."""

    def __init__(self, split: Split, preprocess: Preprocess, seed: int) -> None:
        self._split, self._preprocess, self._seed = split, preprocess, seed
        self._order = ImageOrder(len(split.labels), seed)

    def __getitem__(self, position: int) -> Image:
        index = self._order[position]
        drawn = _seed_of("crop", self._seed, position)
        image = self._preprocess.training(self._split.image(index), drawn)
        return image, self._split.labels[index]


class _Evaluated(Dataset[Image]):
    """Images by index, preprocessed for evaluation."""

    def __init__(self, split: Split, preprocess: Preprocess) -> None:
        self._split, self._preprocess = split, preprocess

    def __getitem__(self, index: int) -> Image:
        return self._preprocess.evaluation(self._split.image(index)), self._split.labels[index]


def training_batches(
    split: Split, preprocess: Preprocess, seed: int, steps: range, batch: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of some steps: uint8 [batch, 3, side, side] and labels [batch].

    The batches do not depend on the number of workers or on the first step.
    """
    positions = range(steps.start * batch, steps.stop * batch)
    yield from _loader(_Trained(split, preprocess, seed), positions, batch, workers)


def evaluation_batches(
    split: Split, preprocess: Preprocess, batch: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images of a split in order: uint8 [batch, 3, side, side], and labels [batch].

    The last batch may be smaller.
    """
    indices = range(len(split.labels))
    yield from _loader(_Evaluated(split, preprocess), indices, batch, workers)


class _Ranges(Sampler[list[int]]):
    """Batches of consecutive numbers.

    Args:
        numbers: all numbers.
        batch: numbers per batch; the last batch may be smaller.
    """

    def __init__(self, numbers: range, batch: int) -> None:
        self._numbers, self._batch = numbers, batch

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self._numbers), self._batch):
            yield list(self._numbers[first : first + self._batch])


def _loader(images: Dataset[Image], numbers: range, batch: int, workers: int) -> DataLoader[Image]:
    # The loader has a generator of its own, because it draws a seed. The global generator is
    # reserved for the method.
    return DataLoader(
        images,
        batch_sampler=_Ranges(numbers, batch),
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
    )


def workers() -> int:
    """Return the number of processes that prepare images: ``BSRBENCH_WORKERS``; 0: only this one.

    Raises:
        BadInput: the variable is not a number of processes.
    """
    asked = os.environ.get(WORKERS) or "0"
    if not asked.isdecimal():
        raise BadInput(f"{WORKERS}={asked!r}: expected a number of processes, 0 or more")
    return int(asked)
