"""Check that a timm model can process images of a size, and find its default size."""

import traceback
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

Make = Callable[..., nn.Module]
# Layers that can split a feature map into squares without overlap. If the map's side is not a
# multiple of the square's side, such a layer ignores the rest at the edge.
CUTS = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
ARGUMENT = "img_size"


class DoesNotFit(ValueError):  # noqa: N818 - it says what is wrong, for the user
    """The model cannot process images of the requested size; the message says why."""


def own_size(model: nn.Module) -> int:
    """Return the side in pixels of the square images that timm made a model for."""
    embedding: Any = getattr(model, "patch_embed", None)
    if isinstance(getattr(embedding, ARGUMENT, None), tuple | list):
        return int(embedding.img_size[0])
    return int(timm.data.resolve_model_data_config(model)["input_size"][-1])


def made_for(make: Make, size: int | None) -> nn.Module:
    """Return the model that ``make`` makes for images of a size.

    Some models have an argument for the image size. The others, such as most convolutional models,
    accept images of any size, and raise a TypeError for this argument.
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
    """Check that the model can process a whole image of a size.

    The check makes a model of its own on torch's meta device, so nothing is computed.

    Raises:
        DoesNotFit: the model cannot be made for this size, its forward pass fails, or a layer
            ignores pixels at the edge.
    """
    with torch.device("meta"), torch.no_grad():
        try:
            model = made_for(make, size).eval()
        except Exception as error:
            # Models of many authors raise errors of many types for an unexpected size.
            raise DoesNotFit(f"timm cannot make the model ({_reason(error)})") from error
        lost = _watch_for_losses(model)
        try:
            model(torch.empty(1, 3, size, size))
        except Exception as error:
            raise DoesNotFit(f"its layers do not fit together ({_reason(error)})") from error
    if lost:
        raise DoesNotFit(lost[0])


def _watch_for_losses(model: nn.Module) -> list[str]:
    """Return a list to which the next forward pass adds a text per layer that ignores pixels."""
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
    """Return whether a layer reads adjacent squares, and ignores an incomplete last square."""
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
    """Return an error in one line; if it has no message, with the line of timm that failed."""
    message = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    if not message:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.line for frame in frames if f"/{timm.__name__}/" in frame.filename]
        message = f"{own[-1]!r} fails" if own else "no reason given"
    return f"{type(error).__name__}: {message}"
