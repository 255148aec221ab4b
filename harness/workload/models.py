"""Make the timm model a workload names, with its weights."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn

from harness import experts, vit
from harness.errors import BadInput, unknown
from harness.method import Unsupported
from harness.spec import MultiTask, Workload
from harness.workload import packages, weights

TINY = 2e-5  # deviation
PAPERS_EXPERTS = MultiTask.model_fields["expert_blocks"].default
PLAIN = ("vision_transformer", "deit")  # timm's modules
WITH_STEM = ("vision_transformer_hybrid", "vitamin")  # the same, after convolutions


def check_name(name: str) -> None:
    """Check that timm knows the model.

    Raises:
        BadInput: it does not.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*") or timm.list_models()
        raise unknown("timm model", name, near)


def names() -> list[str]:
    """Return the models that timm makes by its class VisionTransformer, as methods ask for."""
    modules = (*PLAIN, *WITH_STEM)
    return sorted(name for module in modules for name in timm.list_models(module=module))


def build(workload: Workload, classes: tuple[int, ...], seed: int) -> nn.Module:
    """Return the model on the CPU; ``seed`` draws heads, gates and, if asked for, all weights.

    Args:
        workload: which model.
        classes: of each task.
        seed: of the trial.

    Raises:
        BadInput: an unknown model, an image size it cannot take, weights that cannot be had, or a
            model that cannot be given several tasks.
    """
    check_name(workload.model)
    torch.manual_seed(seed)
    model = _create(workload, classes, pretrained=workload.weights == "timm")
    _check_patches(model)
    if workload.weights not in {"random", "timm"}:
        weights.load_into(model, workload.weights)
    return _with_tasks(model, workload.multitask, classes)


def outline(workload: Workload, classes: tuple[int, ...]) -> nn.Module:
    """Return the model on torch's meta device: shapes and types, no numbers and no memory.

    Raises:
        BadInput: an unknown model, an image size it cannot take, or one that cannot be given
            several tasks.
    """
    check_name(workload.model)
    with torch.device("meta"):
        model = _create(workload, classes, pretrained=False)
        _check_patches(model)
        return _with_tasks(model, workload.multitask, classes)


def _with_tasks(
    model: nn.Module, multitask: MultiTask | None, classes: tuple[int, ...]
) -> nn.Module:
    """Return the model with a head for each of several tasks, and experts."""
    if multitask is None:
        return model
    wanted = multitask.expert_blocks
    try:
        vit.require_blocks(model, "multitask.expert_blocks", wanted, PAPERS_EXPERTS)
        experts.take_turns(model, classes, wanted, multitask.experts, multitask.top_k)
    except Unsupported as reason:
        raise BadInput(
            f"{type(model).__name__} cannot be given several tasks: {reason}"
        ) from reason
    return model


@torch.no_grad()
def begin_head(model: nn.Module, way: str) -> None:
    """Give the head its first numbers: ``drawn`` leaves them, or ``zero``, or ``tiny``."""
    for name, parameter in vit.head(model).named_parameters():
        if way == "zero" or (way == "tiny" and name.endswith("bias")):
            parameter.zero_()
        elif way == "tiny":
            nn.init.trunc_normal_(parameter, std=TINY)


def _create(workload: Workload, classes: tuple[int, ...], *, pretrained: bool) -> nn.Module:
    size = {} if workload.image_size is None else {"img_size": workload.image_size}
    try:
        model: nn.Module = timm.create_model(
            workload.model, pretrained=pretrained, num_classes=classes[0], **size
        )
    except (AssertionError, ValueError, TypeError) as error:
        raise BadInput(
            f"timm cannot make {workload.model!r} at {workload.image_size} px: {error}"
        ) from error
    except Exception as error:
        # timm asks the hub through several libraries, each with network errors of its own.
        if not pretrained:
            raise
        raise BadInput(
            f"timm's pretrained weights of {workload.model!r} cannot be fetched "
            f"({type(error).__name__}); on a machine without a network put them into the hub's "
            "cache first, or choose other weights (random, "
            f"{', '.join(packages.PACKAGED)})"
        ) from error
    return model


def _check_patches(model: nn.Module) -> None:
    """Refuse a size whose last pixels no patch would see: timm leaves them out in silence."""
    patches = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    size = image_size(model)
    patch = patches[0] if isinstance(patches, Sequence) else patches  # some models have a number
    if patch is not None and (size % patch or size < patch):
        raise BadInput(f"image_size {size} is not a multiple of the model's patches of {patch}")


def image_size(model: nn.Module) -> int:
    """Return the side in pixels of the square image the model takes."""
    embedding: Any = getattr(model, "patch_embed", None)
    if getattr(embedding, "img_size", None) is not None:
        return int(embedding.img_size[0])
    return int(timm.data.resolve_model_data_config(model)["input_size"][-1])


def pixel_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of pixels the weights were made for."""
    config = timm.data.resolve_model_data_config(model)
    return tuple(config["mean"]), tuple(config["std"])
