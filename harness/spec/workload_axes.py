"""The axes of a workload (how a step is executed), as values and as words in labels."""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from bsrbench.harness.spec.optimizer_names import (
    MOMENTUM,
    optimizer_in_words,
    optimizer_of_words,
)

# Rows that differ only in these belong to the same question.
AXES = ("micro_batch", "precision", "compiled_step", "optimizer_in_backward", "optimizer")
# The keys of a workload that are axes. The value of the axis "optimizer" is text: the name of the
# optimizer and what is not its default, such as "galore rank=64" or "sgd momentum=0".
AXIS_KEYS = (*AXES, "optimizer_options", MOMENTUM)
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
MOST_PASSES = 10_000  # forward passes of one step; each is run and predicted separately
AxisValue = int | str | bool | None
SWITCHES = {
    "compiled_step": {"compiled": True, "not compiled": False},
    "optimizer_in_backward": {"optimizer in backward": True, "optimizer after backward": False},
}
WHOLE_BATCH = "whole batch"
MICRO_BATCH = re.compile(r"micro-batch ([1-9][0-9]*)")


def axis_in_words(axis: str, value: AxisValue) -> str:
    """Return the words for one value of an axis in a label."""
    if axis == "micro_batch":
        return f"micro-batch {value}" if value else WHOLE_BATCH
    if axis in SWITCHES:
        return next(words for words, meant in SWITCHES[axis].items() if meant == value)
    return str(value)


def axis_of_words(words: str) -> tuple[str, AxisValue] | None:
    """Return the axis and the value that words mean; ``None`` if they are not an axis."""
    if words == WHOLE_BATCH:
        return "micro_batch", None
    if number := MICRO_BATCH.fullmatch(words):
        return "micro_batch", int(number[1])
    if words in PRECISIONS:
        return "precision", words
    for axis, meanings in SWITCHES.items():
        if words in meanings:
            return axis, meanings[words]
    if (keys := optimizer_of_words(words)) is not None:
        options = keys["optimizer_options"] or {}
        return "optimizer", optimizer_in_words(keys["optimizer"], options, keys[MOMENTUM])
    return None


def keys_of_axes(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return axes as keys of a workload; the words of an optimizer become its keys.

    Args:
        axes: axes, and any other keys of a workload, which take precedence over the words.
    """
    keys = dict(axes)
    of_words = optimizer_of_words(str(keys.pop("optimizer", "")))
    return dict(axes) if of_words is None else of_words | keys


def stated(
    values: Mapping[str, AxisValue], beside: Mapping[str, AxisValue]
) -> dict[str, AxisValue]:
    """Return the axes whose values differ from ``beside``, in the order of ``AXES``."""
    return {axis: values[axis] for axis in AXES if values[axis] != beside[axis]}


def require_micro_batch_fits(batch: int, micro_batch: int | None) -> None:
    """Check that a batch can be split into micro-batches of this size.

    Raises:
        ValueError: they are larger than the batch, or there are too many of them.
    """
    if micro_batch is not None and micro_batch > batch:
        raise ValueError(f"micro_batch {micro_batch} is larger than batch {batch}")
    passes = batch // (micro_batch or batch)
    if passes > MOST_PASSES:
        raise ValueError(
            f"batch {batch} in micro-batches of {micro_batch} is {passes:,} forward passes per "
            f"step, expected at most {MOST_PASSES:,}"
        )


def require_step_in_backward(batch: int, micro_batch: int | None, precision: str) -> None:
    """Check that the optimizer can step inside the backward pass.

    Raises:
        ValueError: a step has several backward passes, or fp16 must know all gradients first.
    """
    if (micro_batch or batch) < batch:
        raise ValueError(
            "optimizer_in_backward needs one backward pass per step, but micro_batch "
            f"{micro_batch} splits batch {batch} into several: leave out one of the two"
        )
    if precision == "fp16":
        raise ValueError(
            "precision fp16 skips the whole optimizer step if any gradient is not finite, but "
            "optimizer_in_backward updates as each gradient is computed: leave out one of the two, "
            "or use bf16"
        )
