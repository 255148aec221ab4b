"""Which vision transformers timm has, and which of them are built alike.

Models are told by their parameters and classes, not by the modules of timm they are listed under,
so that the program's own list can be held against this one.
"""

import hashlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import timm
import torch
from timm.models import VisionTransformer
from torch import nn

from bsrbench import methods

# Methods that are walked. The layers of ``peft`` depend on its tuner; its default is ``lora``. The
# others change nothing in a model; which weights train is a matter of the step.
NOT_WALKED = {"peft", "badam", "lisa", "mezo"}
# The walk knows these, but the table was made before them: it has no column for them yet.
NOT_IN_TABLE = {"dtl", "vqt", "sparse_tuning", "dyt", "mslnorm", "asi", "wasi"}
WALKED = [name for name in methods.alone() if name not in NOT_WALKED | NOT_IN_TABLE]
CLASS_TOKEN = re.compile(r"(^|\.)cls_token[_0-9]*$")
MENTIONED = re.compile(r"cls_token|VisionTransformer")  # by the module of every such model
CLASSES = 10
ROW = 4  # patches in a row, where a model takes such images
SIDES = (64, 56, 128)  # tried where its patches do not say
SETTINGS = (bool, int, float, str, type(None))


def candidates() -> list[str]:
    """Return timm's models whose modules mention a class token or the class VisionTransformer.

    Names are of architectures; sets of weights of one are not told apart.
    """
    return [
        name
        for name in timm.list_models()
        if _mentions(inspect.getmodule(timm.model_entrypoint(name)))
    ]


@cache
def _mentions(module: Any) -> bool:
    return bool(MENTIONED.search(inspect.getsource(module)))


def is_walked(model: nn.Module) -> bool:
    """Tell whether a model is a VisionTransformer or has a parameter called a class token."""
    own = (name for name, _ in model.named_parameters())
    return is_plain(model) or any(map(CLASS_TOKEN.search, own))


def is_plain(model: nn.Module) -> bool:
    """Tell whether timm makes a model by its class VisionTransformer."""
    return isinstance(model, VisionTransformer)


def outline(name: str, **settings: Any) -> Any:
    """Return a model without numbers."""
    with torch.device("meta"):
        return timm.create_model(name, num_classes=CLASSES, **settings)


def small_side(name: str) -> int | None:
    """Return a small side of images that a model can be made for; ``None`` where it cannot."""
    patches = getattr(getattr(outline(name), "patch_embed", None), "patch_size", None)
    patch = patches[0] if isinstance(patches, tuple) else patches
    first = (ROW * patch,) if isinstance(patch, int) and patch > 1 else ()
    for side in (*first, *SIDES):
        try:
            outline(name, img_size=side)
        except (AssertionError, RuntimeError, TypeError, ValueError):
            continue
        return side
    return None


def structure(model: nn.Module) -> str:
    """Return 6 hex digits of what repeated blocks are made of, whatever their width and number."""
    parts = {part for part in _parts(model) if "#" in part} | {type(model).__name__}
    return _digest(sorted(parts))


def built_as(model: nn.Module) -> str:
    """Return 6 hex digits of all that a model is built of, sizes included."""
    rows = [
        (name, type(part).__name__, sorted(_settings(part))) for name, part in model.named_modules()
    ]
    shapes = [(name, tuple(part.shape)) for name, part in model.named_parameters()]
    return _digest([rows, shapes])


def _parts(model: nn.Module) -> Iterator[str]:
    """Yield place and kind of every module; places of blocks in a row are one."""
    for name, part in model.named_modules():
        own = [own for own, _ in part.named_parameters(recurse=False)]
        form = getattr(part, "approximate", "")
        yield f"{re.sub(r'[0-9]+', '#', name)}:{type(part).__name__}{form}{own}"


def _settings(part: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(part).items():
        whole = value if isinstance(value, tuple | list) else (value,)
        if not name.startswith("_") and all(isinstance(one, SETTINGS) for one in whole):
            yield name, repr(value)


def _digest(what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:6]
