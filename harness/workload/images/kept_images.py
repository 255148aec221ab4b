"""Keep the images of a split in memory, decoded once, as far as they fit."""

import os
import resource
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bsrbench.harness.devices.cpu import Cpu
from bsrbench.harness.workload.data import ImageData, Split
from bsrbench.harness.workload.images.image_order import ImageOrder

# Trainings that run side by side each have their share of the cores, and so of the memory. A
# quarter leaves room for the training itself and for programs that start later.
SHARE_OF_FREE = 0.25
AT_A_TIME = 64  # images that are decoded before their bytes are compared with the room that is left
MOST_THREADS = 8


@dataclass
class Room:
    """Memory that images may still take, in bytes."""

    left_bytes: int

    def take(self, wanted_bytes: int) -> bool:
        """Reserve bytes if they are left, and return whether they were."""
        fits = wanted_bytes <= self.left_bytes
        self.left_bytes -= wanted_bytes if fits else 0
        return fits


@dataclass(frozen=True)
class KeptImages:
    """A split of which some images are in memory; the others are decoded for each use.

    Attributes:
        split: the split with all images.
        labels: labels of all images, int64, [n].
        kept: the images in memory by their index: uint8, [3, height, width].
        asked: number of images that were to be kept.
    """

    split: Split
    labels: Tensor
    kept: dict[int, Tensor] = field(default_factory=dict)
    asked: int = 0

    @property
    def decodes(self) -> bool:
        """Whether ``image`` decodes a file each time it is called, for some of the images."""
        return len(self.kept) < self.asked

    def image(self, index: int) -> Tensor:
        """Return an image as it is stored: uint8, [3, height, width]."""
        image = self.kept.get(index)
        return self.split.image(index) if image is None else image

    def remark(self) -> str:
        """Return what a reader of the training's seconds must know; empty if all images fit."""
        if len(self.kept) == self.asked:
            return ""
        return (
            f"{len(self.kept):,} of {self.asked:,} training images fit into the memory that "
            f"images may take ({SHARE_OF_FREE:.0%} of the free memory, times the share of the "
            "cores); the others were decoded for each use"
        )


def keep(split: Split, indices: Sequence[int], room: Room) -> KeptImages:
    """Decode images of a split and keep them, in the given order, until the room is used up.

    Nothing is kept of a split whose images are in memory already.

    Raises:
        BadInput: an image does not decode.
    """
    kept: dict[int, Tensor] = {}
    if not split.decodes:
        return KeptImages(split, split.labels)
    with ThreadPoolExecutor(min(cores_at_hand(), MOST_THREADS)) as pool:
        for first in range(0, len(indices), AT_A_TIME):
            some = indices[first : first + AT_A_TIME]
            for index, image in zip(some, pool.map(split.image, some), strict=True):
                if not room.take(image.nbytes):
                    return KeptImages(split, split.labels, kept, len(indices))
                kept[index] = image
    return KeptImages(split, split.labels, kept, len(indices))


def kept_for_training(
    images: ImageData, positions: range, seed: int, room: Room, *, reads_curve: bool
) -> ImageData:
    """Return a data set whose images are in memory, as far as the training uses them repeatedly.

    Args:
        images: the data set.
        positions: the positions of the training's images; see ``ImageOrder``.
        seed: seed of the trial.
        room: memory that images may still take.
        reads_curve: whether the validation split is read during the training.

    Raises:
        BadInput: an image does not decode.
    """
    order = ImageOrder(len(images.train.labels), seed).images(positions)
    train = keep(images.train, order, room)
    validation = images.validation
    if reads_curve:
        validation = keep(validation, range(len(validation.labels)), room)
    notes = (*images.notes, *filter(None, [train.remark()]))
    return replace(images, train=train, validation=validation, notes=notes)


def room_for_images() -> Room:
    """Return the room for the images of this process; nothing if free memory cannot be read."""
    free = Cpu(torch.device("cpu")).free_bytes() or 0
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit)
    share_of_cores = cores_at_hand() / (os.cpu_count() or 1)
    return Room(int(free * SHARE_OF_FREE * min(1.0, share_of_cores)))


def cores_at_hand() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
