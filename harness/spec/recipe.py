"""The training recipe, which is the same for every method."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bsrbench.harness.spec.frozen_data import (
    Count,
    Frozen,
    NotNegative,
    PositiveShare,
    Rate,
    Share,
    Whole,
    digest_without,
)

RATES = ("learning_rate", "final_learning_rate", "tries")  # can differ between rows


class LearningRateTry(Frozen):
    """One learning rate that was tried, and the validation accuracy it reached."""

    learning_rate: Rate
    validation_accuracy: Share | None = None


class Recipe(Frozen):
    """The training recipe, which is the same for every method.

    Attributes:
        steps: optimizer steps; the schedule is a cosine decay after a linear warm-up.
        learning_rate: peak learning rate.
        final_learning_rate: learning rate at the end.
        warmup_steps: steps of the warm-up.
        clip_norm: bound on the norm of all gradients; ``None`` does not clip.
        label_smoothing: share of the target that is spread over all classes.
        augmentation: for training images. ``none`` only resizes, ``crop`` takes a random crop
            (torchvision's RandomResizedCrop), ``crop-flip`` also flips half of the crops.
        crop_scale: smallest and largest area of the crop, as fractions of the image.
        evaluation_crop: for evaluation images. ``resize`` resizes to a square, ``centre`` resizes
            the shorter side and takes the centre crop.
        interpolation: for resizing, always with antialiasing.
        head: initialisation of the head. ``drawn`` is the model's own, ``zero`` sets weights and
            biases to 0, ``tiny`` draws weights from a normal distribution with standard deviation
            2e-5 and sets biases to 0.
        evaluate_every: evaluate the validation split after every so many steps, for a curve; the
            training time does not include this.
    """

    steps: Count
    learning_rate: Rate
    final_learning_rate: NotNegative = 0.0
    warmup_steps: Whole = 0
    clip_norm: Rate | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augmentation: Literal["none", "crop", "crop-flip"] = "none"
    crop_scale: Annotated[tuple[PositiveShare, PositiveShare], Field(strict=False)] = (0.08, 1.0)
    evaluation_crop: Literal["resize", "centre"] = "resize"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    head: Literal["drawn", "zero", "tiny"] = "drawn"
    evaluate_every: Count | None = None

    @model_validator(mode="after")
    def _is_in_order(self) -> "Recipe":
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate:g} is above learning_rate "
                f"{self.learning_rate:g}"
            )
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale {list(self.crop_scale)} must be [least, largest]")
        return self


class Training(Recipe):
    """The recipe of one trial, and the split on which its accuracy is evaluated.

    Attributes:
        tries: the learning rates from which this one was chosen; empty if it was not tuned.
        evaluate: ``test`` for a result, ``validation`` for choosing a learning rate.
    """

    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()
    evaluate: Literal["test", "validation"] = "test"

    def question(self) -> str:
        """Return a hash of the recipe without its rates; rows of one question share it."""
        return digest_without(self, RATES)
