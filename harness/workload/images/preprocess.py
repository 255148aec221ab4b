"""Turn one stored image into a model's input: augmented for training, plain for evaluation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.workload.images.random_crops import random_crop


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
        flips = settings.augmentation == "crop-flip"
        _, height, width = image.shape
        crop = random_crop(height, width, settings.crop_scale, seed, flips=flips)
        rows = slice(crop.top, crop.top + crop.height)
        columns = slice(crop.left, crop.left + crop.width)
        resized = self._resized(image[:, rows, columns], [self.side, self.side])
        return _flipped(resized) if crop.flipped else resized

    def evaluation(self, image: Tensor) -> Tensor:
        """Return an image of any size as uint8 [3, side, side], without augmentation."""
        if self.settings is None or self.settings.evaluation_crop == "resize":
            return self._resized(image, [self.side, self.side])
        cut: Tensor = transform.center_crop(
            self._resized(image, [self.side]), [self.side, self.side]
        )
        return cut

    def repeats(self) -> bool:
        """Return whether training prepares an image in the same way every time."""
        return self.settings is None or self.settings.augmentation == "none"

    def normalise(self, images: Tensor) -> Tensor:
        """Convert uint8 [n, 3, side, side] to contiguous fp32, and normalise each channel.

        Pixels are divided by 255; then the mean is subtracted, and the result is divided by the
        standard deviation.
        """
        shape = (1, -1, 1, 1)
        shift = images.new_tensor(self.mean, dtype=torch.float32).view(shape)
        width = images.new_tensor(self.deviation, dtype=torch.float32).view(shape)
        # Contiguous, as the noise is on which a step is timed: an operator's kernel may depend on
        # the memory format.
        pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.div_(255).sub_(shift).div_(width)

    def _resized(self, image: Tensor, size: list[int]) -> Tensor:
        named = self.settings.interpolation if self.settings is not None else "bicubic"
        mode = v2.InterpolationMode(named)
        resized: Tensor = transform.resize(
            _adjacent_channels(image), size, interpolation=mode, antialias=True
        )
        return resized


def _adjacent_channels(image: Tensor) -> Tensor:
    """Return an image [3, height, width] with the channels of a pixel adjacent in memory.

    torch resizes such an image to the same pixels in half of the time: its kernel rearranges
    others. numpy copies here and below: torch would start threads for it in every worker.
    """
    rows = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(rows).permute(2, 0, 1)


def _flipped(image: Tensor) -> Tensor:
    """Return an image [3, height, width] flipped from left to right."""
    rows = image.permute(1, 2, 0).numpy()
    flipped = np.empty_like(rows)
    for channel in range(rows.shape[2]):  # a fifth of the time for all channels at once
        flipped[..., channel] = rows[:, ::-1, channel]
    return torch.from_numpy(flipped).permute(2, 0, 1)
