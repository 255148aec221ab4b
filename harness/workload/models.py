"""Make the timm model of a workload, with its weights."""

import functools
from contextlib import AbstractContextManager, nullcontext

import timm
import torch
from torch import nn

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model import experts, vit
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import image_sizes, packages, weights
from bsrbench.harness.workload.unfilled import Unfilled

TINY = 2e-5  # standard deviation
PAPERS_EXPERTS = MultiTask.model_fields["expert_blocks"].default
PLAIN = ("vision_transformer", "deit")  # timm's modules of plain vision transformers
SHAPES = "size mismatch"  # torch's message if a tensor of a state dict has another shape
WITH_STEM = ("vision_transformer_hybrid", "vitamin")  # the same with convolutions in front


def check_name(name: str) -> None:
    """Check that timm knows the model.

    Raises:
        BadInput: timm does not know it.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*") or timm.list_models()
        raise unknown("timm model", name, near)


def names() -> list[str]:
    """Return the models of timm's class VisionTransformer, which many methods require."""
    modules = (*PLAIN, *WITH_STEM)
    return sorted(name for module in modules for name in timm.list_models(module=module))


def build(workload: Workload, classes: tuple[int, ...], seed: int) -> nn.Module:
    """Return the model on the CPU; heads, gates and random weights are drawn with ``seed``.

    This function does not check that the model can process images of the requested size. Every
    trial calls ``outline`` first, which does so. A second model here would change what the meters
    of the process read.

    Args:
        workload: the workload with the model's settings.
        classes: number of classes of each task.
        seed: seed of the trial.

    Raises:
        BadInput: the model is unknown, cannot process the image size, or does not support several
            tasks, or its weights are not available.
    """
    check_name(workload.model)
    torch.manual_seed(seed)
    with _draws(workload, classes):
        model = _create(workload, classes, pretrained=workload.weights == "timm")
    _check_patches(model, workload)
    if workload.weights not in weights.DRAWN_OR_FETCHED:
        weights.load_into(model, workload.weights)
    return _with_tasks(model, workload.multitask, classes)


def outline(workload: Workload, classes: tuple[int, ...]) -> nn.Module:
    """Return the model on torch's meta device: shapes and dtypes without values or memory.

    Raises:
        BadInput: the model is unknown, cannot process the image size, or does not support several
            tasks.
    """
    check_name(workload.model)
    _require_image_size(workload)
    with torch.device("meta"):
        model = _create(workload, classes, pretrained=False)
        _check_patches(model, workload)
        return _with_tasks(model, workload.multitask, classes)


def _draws(workload: Workload, classes: tuple[int, ...]) -> AbstractContextManager[object]:
    """Return the context in which a model is made: without random values that a file replaces.

    The file of a plain vision transformer contains every parameter but the classifier, or it is
    refused. Other models can have a classifier of several layers.
    """
    replaced = weights.replaces_all(workload.weights) and _is_plain(workload.model)
    return Unfilled(classes[0]) if replaced else nullcontext()


def _with_tasks(
    model: nn.Module, multitask: MultiTask | None, classes: tuple[int, ...]
) -> nn.Module:
    """Add one head per task and mixtures of experts to the model, if there are several tasks."""
    if multitask is None:
        return model
    expert_blocks = multitask.expert_blocks
    try:
        vit.require_blocks(model, "multitask.expert_blocks", expert_blocks, PAPERS_EXPERTS)
        experts.take_turns(model, classes, expert_blocks, multitask.experts, multitask.top_k)
    except Unsupported as reason:
        raise BadInput(
            f"{type(model).__name__} does not support several tasks: {reason}"
        ) from reason
    return model


@torch.no_grad()
def begin_head(model: nn.Module, way: str) -> None:
    """Initialise the head: ``zero``; ``tiny``: small random weights; ``drawn``: no change."""
    for name, parameter in vit.head(model).named_parameters():
        if way == "zero" or (way == "tiny" and name.endswith("bias")):
            parameter.zero_()
        elif way == "tiny":
            nn.init.trunc_normal_(parameter, std=TINY)


def _require_image_size(workload: Workload) -> None:
    """Check that the model can process images of the requested size.

    Plain vision transformers are not checked: they are made for a size and reject other sizes.

    Raises:
        BadInput: the model cannot process them; the message says why.
    """
    name, size = workload.model, workload.image_size
    if size is None or _is_plain(name):
        return
    make = functools.partial(timm.create_model, name, pretrained=False)
    try:
        image_sizes.require_goes_through(make, size)
    except image_sizes.DoesNotFit as reason:
        raise BadInput(
            f"image_size {size}: {name!r} cannot process images of {size} px: {reason}; leave "
            f"image_size out to use the model's {_own_size(name)} px, or choose another size"
        ) from reason


def _is_plain(name: str) -> bool:
    return bool(timm.models.is_model_in_modules(name, PLAIN))


def _own_size(name: str) -> int:
    with torch.device("meta"):
        return image_sizes.own_size(timm.create_model(name, pretrained=False))


def _create(workload: Workload, classes: tuple[int, ...], *, pretrained: bool) -> nn.Module:
    make = functools.partial(
        timm.create_model, workload.model, pretrained=pretrained, num_classes=classes[0]
    )
    try:
        model = image_sizes.made_for(make, workload.image_size)
    except (AssertionError, ValueError, TypeError) as error:
        raise BadInput(
            f"timm cannot make {workload.model!r} at {workload.image_size} px: {error}"
        ) from error
    except Exception as error:
        # timm downloads with several libraries, and each has its own types of network errors.
        if not pretrained:
            raise
        if SHAPES in str(error):
            raise BadInput(
                f"timm's pretrained weights of {workload.model!r} do not fit the model made for "
                f"images of {workload.image_size} px: leave image_size out, or choose other weights"
            ) from error
        raise BadInput(
            f"timm's pretrained weights of {workload.model!r} cannot be fetched "
            f"({type(error).__name__}); on a machine without a network, put them into the hub's "
            "cache first, or choose other weights (random, "
            f"{', '.join(packages.PACKAGED)})"
        ) from error
    return model


def _check_patches(model: nn.Module, workload: Workload) -> None:
    """Check that the size is a multiple of the patch size; timm silently ignores the rest."""
    size = workload.image_size
    if size is None or not _is_plain(workload.model):
        return
    patch = model.patch_embed.patch_size[0]  # type: ignore[union-attr,index]  # plain ones have it
    if size % patch:
        raise BadInput(f"image_size {size} is not a multiple of the model's patch size {patch}")


def image_size(model: nn.Module, workload: Workload) -> int:
    """Return the side in pixels of the square images that the model processes."""
    return workload.image_size or image_sizes.own_size(model)


def pixel_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the per-channel mean and standard deviation of pixels that the weights expect."""
    config = timm.data.resolve_model_data_config(model)
    return tuple(config["mean"]), tuple(config["std"])
