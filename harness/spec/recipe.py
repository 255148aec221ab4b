"""How a model is trained, whatever the method."""

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

RATES = ("learning_rate", "final_learning_rate", "tries")  # each row's own


class LearningRateTry(Frozen):
    """One learning rate that was tried, and the validation accuracy it reached."""

    learning_rate: Rate
    validation_accuracy: Share | None = None


class Recipe(Frozen):
    """How a model is trained, whatever the method.

    Attributes:
        steps: optimizer steps; the schedule is half a cosine after a linear warm-up.
        learning_rate: its peak.
        final_learning_rate: its end.
        warmup_steps: steps of the warm-up.
        clip_norm: bound on the norm of all gradients; ``None`` does not clip.
        label_smoothing: share of the target spread over all classes.
        augmentation: of training images: ``none`` resizes them, ``crop`` takes a random part
            (torchvision's RandomResizedCrop), ``crop-flip`` mirrors half of these, too.
        crop_scale: least and largest area of that part.
        evaluation_crop: of other images: ``resize`` squeezes them, ``centre`` resizes the shorter
            side and cuts out the centre.
        interpolation: of resizing, with antialiasing.
        head: ``drawn`` is the model's own initialisation, ``zero``, or ``tiny``, a normal
            distribution of deviation 2e-5; weights and biases alike but for ``tiny``'s biases, 0.
        evaluate_every: steps after which the validation split is read for a curve; the clock
            stands still meanwhile.
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
    """A recipe as one trial follows it, and on which split to read the accuracy.

    Attributes:
        tries: how the learning rate was chosen; empty when nobody tuned it.
        evaluate: ``test`` for a result, ``validation`` for a try.
    """

    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()
    evaluate: Literal["test", "validation"] = "test"

    def question(self) -> str:
        """Return what trainings share whose rows answer one question: all but the rates."""
        return digest_without(self, RATES)
