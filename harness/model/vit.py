"""Access to the parts of a vision transformer; Unsupported is raised if a part is missing."""

from typing import Any

from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Unsupported


def vision_transformer(model: nn.Module) -> VisionTransformer:
    """Return ``model`` if it is one of timm's plain vision transformers.

    Raises:
        Unsupported: the model is of another class, or its blocks are not plain pre-norm blocks.
    """
    if not isinstance(model, VisionTransformer):
        raise Unsupported(f"{type(model).__name__} is not one of timm's VisionTransformer models")
    for index, block in enumerate(model.blocks):
        _require_plain(index, block)
    return model


def _require_plain(index: int, block: Any) -> None:
    """Check that a block is a plain pre-norm block: norm, attention, norm, MLP."""
    attention = getattr(block, "attn", None)  # parallel blocks have no attn, or several
    if not (isinstance(block, Block) and isinstance(attention, Attention)):
        beside = "" if attention is None else f" with {type(attention).__name__}"
        raise Unsupported(
            f"block {index} is a {type(block).__name__}{beside}, which is not supported; expected "
            "timm's Block with Attention"
        )
    if attention.gate is not None:
        raise Unsupported(f"the attention of block {index} is gated, which is not supported")


def blocks(model: nn.Module) -> list[Any]:
    """Return the transformer blocks in order.

    Raises:
        Unsupported: the model is not a plain vision transformer.
    """
    return list(vision_transformer(model).blocks)


def width(model: nn.Module) -> int:
    """Return the embedding dimension."""
    return int(vision_transformer(model).embed_dim)


def final_norm(model: nn.Module) -> nn.Module:
    """Return the normalisation after the last block."""
    norm: nn.Module = vision_transformer(model).norm
    return norm


class RunsBlocks(nn.Module):
    """A vision transformer that runs its blocks one by one, because it reads what each one returns.

    Use it as a base class before timm's ``VisionTransformer``.
    """


class Branched(RunsBlocks):
    """A vision transformer whose backward pass goes through a branch and not through its blocks.

    Use it as a base class before timm's ``VisionTransformer``.

    Attributes:
        branch: a module with timm's blocks in ``blocks``, and the norm after them in ``norm``.
    """

    branch: Any


def stored_blocks(model: nn.Module) -> list[Any]:
    """Return the blocks whose activations are saved: the model's blocks, or its branch's blocks.

    Raises:
        Unsupported: the model is not a plain vision transformer.
    """
    own = blocks(model)
    return list(model.branch.blocks) if isinstance(model, Branched) else own


def stored_norm(model: nn.Module) -> nn.Module:
    """Return the normalisation after the last of the ``stored_blocks``."""
    own = final_norm(model)
    norm: nn.Module = model.branch.norm if isinstance(model, Branched) else own
    return norm


def head(model: nn.Module) -> nn.Module:
    """Return the classification head of any timm model.

    Some models have two heads, and average or add their logits. Distilled models have one head per
    leading token. The second head of VOLO reads the patch tokens. For such a model the result is a
    new ``ModuleList`` of both heads; the list is not a part of the model.

    Raises:
        Unsupported: the model has no head, or its head has no parameters.
    """
    find = getattr(model, "get_classifier", None)
    classifier = find() if callable(find) else None
    parts = list(classifier) if isinstance(classifier, tuple) else [classifier]
    heads = [part for part in parts if isinstance(part, nn.Module)]
    heads += _heads_beside(model, heads)
    if not any(list(part.parameters()) for part in heads):
        raise Unsupported(f"{type(model).__name__} has no classification head to train")
    return heads[0] if len(heads) == 1 else nn.ModuleList(heads)


def _heads_beside(model: nn.Module, heads: list[nn.Module]) -> list[nn.Module]:
    """Return further heads: ``pretrained_cfg`` names them, but ``get_classifier`` omits them."""
    named: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    places = (named,) if isinstance(named, str) else tuple(named)
    known = {part for own in heads for part in own.modules()}
    modules = dict(model.named_modules())
    classifiers = (modules[place] for place in places if place in modules)
    return [part for part in classifiers if part not in known]


def tokens_read(model: nn.Module) -> int:
    """Return how many leading tokens a head without pooling reads: 2 if distilled, otherwise 1."""
    return 1 if getattr(model, "dist_token", None) is None else 2


def require_class_token(model: nn.Module) -> None:
    """Check that the only leading token is a class token, and that the head reads it.

    Raises:
        Unsupported: the model has no class token or has further leading tokens, or the head reads
            something else.
    """
    vit = vision_transformer(model)
    if vit.cls_token is None:
        raise Unsupported("the model has no class token, whose attention ranks the other tokens")
    if vit.num_prefix_tokens != 1:
        raise Unsupported(
            f"the model has {vit.num_prefix_tokens} leading tokens (registers or a distillation "
            "token); ranking by one class token's attention is not defined for it"
        )
    if vit.global_pool != "token":
        raise Unsupported(f"the head reads {vit.global_pool!r}, not the class token")


def require_blocks(
    model: nn.Module,
    option: str,
    wanted: tuple[int, ...],
    paper: tuple[int, ...] | None = None,
) -> None:
    """Check that the model has the blocks that an option lists.

    Args:
        model: a plain vision transformer.
        option: name of the option.
        wanted: value of the option: block indices.
        paper: default of the option, if the default is the paper's choice for 12 blocks.

    Raises:
        Unsupported: the model lacks a listed block, or the option has its default and the model
            does not have 12 blocks.
    """
    depth = len(blocks(model))
    if depth != PAPER_DEPTH and wanted == paper:  # checked first: the user may not have set it
        raise Unsupported(
            f"the default {option} is the paper's choice for {PAPER_DEPTH} blocks; "
            f"the model has {depth}, so set {option}"
        )
    if missing := [index for index in wanted if index >= depth]:
        raise Unsupported(f"{option} names blocks {missing}; the model has 0 to {depth - 1}")


def passes_all(part: nn.Module) -> bool:
    """Return whether a module in the place of a dropout returns its input unchanged."""
    never = type(part) is nn.Identity
    return never or (type(part) is nn.Dropout and not (part.training and part.p > 0))
