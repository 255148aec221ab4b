"""The stated options of a workload's optimizer."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bsrbench.harness.spec.frozen_data import MOST, Count, Frozen, Rate
from bsrbench.harness.spec.optimizer_names import DEFAULTS, OPTIMIZERS, Option

Beta = Annotated[float, Field(ge=0, lt=1)]
Momentum = Beta
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 65_536


class OptimizerOptions(Frozen):
    """The options of an optimizer that are stated; every other one has the optimizer's default.

    Attributes:
        beta1: decay of the mean of gradients. Lion also uses it for the direction of a step.
        beta2: decay of the mean of squared gradients; of Lion, of the mean of gradients.
        eps: is added to the root of the mean of squares, which is the divisor.
        block_size: number of state values that share a scale (``adamw8``, ``adamw4``).
        beta2_decay: exponent of Adafactor: in step t the new squares have the weight t to the power
            of this.
        clip_threshold: bound on the root mean square of Adafactor's update.
        least_scale: Adafactor multiplies its rate by the root mean square of the parameter, but at
            least by this.
        rank: rank of the projected gradients (``galore``, ``apollo``); the default is a quarter of
            the shorter side of each matrix.
        refresh_steps: number of steps with the same projection.
        scale: factor of the update. GaLore multiplies by it, APOLLO by its square root.
        norm_growth: APOLLO bounds the norm of an update to this multiple of the one before.
    """

    beta1: Beta | None = None
    beta2: Beta | None = None
    eps: Rate | None = None
    block_size: Annotated[int, Field(ge=SMALLEST_BLOCK, le=LARGEST_BLOCK)] | None = None
    beta2_decay: Annotated[float, Field(ge=-10, le=0)] | None = None
    clip_threshold: Rate | None = None
    least_scale: Rate | None = None
    rank: Annotated[int, Field(ge=1, le=MOST)] | None = None
    refresh_steps: Count | None = None
    scale: Rate | None = None
    norm_growth: Annotated[float, Field(gt=1, le=1e6)] | None = None

    @model_validator(mode="after")
    def _has_whole_blocks(self) -> "OptimizerOptions":
        size = self.block_size
        if size is not None and size & (size - 1):
            raise ValueError(
                f"block_size {size} is not a power of two: expected one from {SMALLEST_BLOCK} to "
                f"{LARGEST_BLOCK}, for example 256"
            )
        return self

    @model_serializer(mode="wrap")
    def _only_stated(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not stated, so that a later option does not change a trial's id."""
        return {name: value for name, value in dump(self).items() if value is not None}

    def stated(self) -> dict[str, float | int]:
        """Return the options that are stated."""
        return {name: value for name, value in self if value is not None}


def require_own_options(optimizer: str, options: OptimizerOptions | None) -> None:
    """Check that an optimizer has these options.

    Raises:
        ValueError: it does not have one of them.
    """
    own = DEFAULTS[optimizer]
    for name in options.stated() if options else {}:
        if name not in own:
            listed = f"its options are {', '.join(own)}" if own else "it has no options"
            others = [other for other in OPTIMIZERS if name in DEFAULTS[other]]
            raise ValueError(
                f"optimizer {optimizer} has no option {name}: {listed}; {name} is an option of "
                f"{', '.join(others)}"
            )


def all_options(optimizer: str, options: OptimizerOptions | None) -> dict[str, Option]:
    """Return every option of an optimizer, as stated or else with its default."""
    return DEFAULTS[optimizer] | (options.stated() if options else {})
