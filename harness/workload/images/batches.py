"""Batches of prepared images by their number, for training and for evaluation."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bsrbench.harness.workload.data import Split
from bsrbench.harness.workload.images.image_order import ImageOrder
from bsrbench.harness.workload.images.kept_images import Room
from bsrbench.harness.workload.images.preprocess import Preprocess
from bsrbench.harness.workload.seeds import seed_of

Batch = tuple[Tensor, Tensor]
# Batches by number. A batch depends on its number only, so any thread or process can prepare it.
Batches = Dataset[Batch]


class TrainingBatches(Dataset[Batch]):
    """The batch of each step, augmented at random; it depends on the seed and the step.

    Args:
        split: the training images.
        preprocess: how they are prepared.
        seed: seed of the trial.
        size: images per batch.
        room: memory for prepared images, if these are the same in every epoch and are to be kept.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        seed: int,
        size: int,
        room: Room | None = None,
    ) -> None:
        self._split, self._labels, self._preprocess = split, split.labels, preprocess
        self._seed, self._size = seed, size
        self._order = ImageOrder(len(self._labels), seed)
        self._prepared: dict[int, Tensor] | None = None
        prepared_bytes = len(self._labels) * 3 * preprocess.side**2
        if room is not None and preprocess.repeats() and room.take(prepared_bytes):
            self._prepared = {}

    def __getitem__(self, step: int) -> Batch:
        """Return images, uint8 [size, 3, side, side], and labels, int64 [size]."""
        positions = range(step * self._size, (step + 1) * self._size)
        indices = [self._order[position] for position in positions]
        images = (self._image(*each) for each in zip(indices, positions, strict=True))
        return _stacked(images, len(indices), self._preprocess.side), self._labels[indices]

    def _image(self, index: int, position: int) -> Tensor:
        if self._prepared is not None and index in self._prepared:
            return self._prepared[index]
        seed = seed_of("crop", self._seed, position)
        image = self._preprocess.training(self._split.image(index), seed)
        if self._prepared is not None:
            self._prepared[index] = image
        return image


class EvaluationBatches(Dataset[Batch]):
    """All images of a split in order, prepared for evaluation; the last batch may be smaller.

    Args:
        split: the images.
        preprocess: how they are prepared.
        size: images per batch.
    """

    def __init__(self, split: Split, preprocess: Preprocess, size: int) -> None:
        self._split, self._labels, self._preprocess = split, split.labels, preprocess
        self._size = size

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / self._size)

    def __getitem__(self, number: int) -> Batch:
        """Return images, uint8 [n, 3, side, side], and labels, int64 [n]."""
        indices = range(len(self._labels))[number * self._size : (number + 1) * self._size]
        images = (self._preprocess.evaluation(self._split.image(index)) for index in indices)
        return _stacked(images, len(indices), self._preprocess.side), self._labels[list(indices)]


def _stacked(images: Iterable[Tensor], count: int, side: int) -> Tensor:
    """Return images [3, side, side] as one batch [n, 3, side, side], channels adjacent in memory.

    Each image is copied as soon as it is prepared, so that the next one uses its memory again.
    """
    batch = np.empty((count, side, side, 3), np.uint8)
    for rows, image in zip(batch, images, strict=True):
        rows[:] = image.permute(1, 2, 0).numpy()
    return torch.from_numpy(batch).permute(0, 3, 1, 2)
