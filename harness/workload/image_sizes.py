"""Check that a timm model can process images of a size, and find its default size."""

import traceback
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

Make = Callable[..., nn.Module]
# They cut a map into squares that do not overlap: what is left at its edge goes nowhere.
CUTS = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
ARGUMENT = "img_size"


class DoesNotFit(ValueError):  # noqa: N818 - it names what was wrong, for a person
    """The model cannot process images of the requested size; the message says why."""


def own_size(model: nn.Module) -> int:
    """Return the side in pixels of the square images that timm made a model for."""
    embedding: Any = getattr(model, "patch_embed", None)
    if isinstance(getattr(embedding, ARGUMENT, None), tuple | list):
        return int(embedding.img_size[0])
    return int(timm.data.resolve_model_data_config(model)["input_size"][-1])


def made_for(make: Make, size: int | None) -> nn.Module:
    """Return the model that ``make`` makes for images of a size.

    Some models are made for a size; the others, most convolutional ones, take what comes, and say
    that they know no such argument.
    """
    if size is None:
        return make()
    try:
        return make(**{ARGUMENT: size})
    except TypeError as error:
        if ARGUMENT not in str(error):
            raise
    return make()


def require_goes_through(make: Make, size: int) -> None:
    """Check that an image of a size goes through the model, and all of it.

    A model is made for this alone, on torch's meta device: nothing is computed.

    Raises:
        DoesNotFit: it cannot be made for that size, fails at it, or leaves pixels out.
    """
    with torch.device("meta"), torch.no_grad():
        try:
            model = made_for(make, size).eval()
        except Exception as error:
            # Whatever its many authors' code raises at a size they did not think of.
            raise DoesNotFit(f"timm cannot build it for them ({_reason(error)})") from error
        lost = _watch_for_losses(model)
        try:
            model(torch.empty(1, 3, size, size))
        except Exception as error:
            raise DoesNotFit(f"its layers do not fit together ({_reason(error)})") from error
    if lost:
        raise DoesNotFit(lost[0])


def _watch_for_losses(model: nn.Module) -> list[str]:
    """Return a list that the next forward pass fills with what it leaves out."""
    lost: list[str] = []

    def look(name: str, module: Any, maps: tuple[Tensor, ...]) -> None:
        square, sides = _pair(module.kernel_size), tuple(maps[0].shape[-2:])
        if any(side % own for side, own in zip(sides, square, strict=True)):
            lost.append(
                f"{name} splits a map of {sides[0]} x {sides[1]} into squares of "
                f"{square[0]} x {square[1]}, and would ignore the rest at the edge"
            )

    for name, module in model.named_modules():
        if isinstance(module, CUTS) and _leaves_out(module):
            module.register_forward_pre_hook(lambda cut, maps, name=name: look(name, cut, maps))
    return lost


def _leaves_out(module: Any) -> bool:
    """Return whether a layer reads squares side by side, and none beyond the last whole one."""
    square = _pair(module.kernel_size)
    return (
        square == _pair(module.stride)
        and square != (1, 1)
        and module.padding in {0, (0, 0), "valid"}
        and not getattr(module, "ceil_mode", False)
    )


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _reason(error: Exception) -> str:
    """Return an error in one line; where it says nothing, what was asserted."""
    said = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    if not said:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.line for frame in frames if f"/{timm.__name__}/" in frame.filename]
        said = f"{own[-1]!r} fails" if own else "no reason given"
    return f"{type(error).__name__}: {said}"
