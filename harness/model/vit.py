"""Access to the parts of a vision transformer; Unsupported if a model lacks one."""

from typing import Any

from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Unsupported


def vision_transformer(model: nn.Module) -> VisionTransformer:
    """Return ``model`` if it is one of timm's plain vision transformers.

    Raises:
        Unsupported: it is something else, or its blocks are not plain pre-norm blocks.
    """
    if not isinstance(model, VisionTransformer):
        raise Unsupported(f"{type(model).__name__} is not one of timm's VisionTransformer models")
    for index, block in enumerate(model.blocks):
        _require_plain(index, block)
    return model


def _require_plain(index: int, block: Any) -> None:
    """Check that a block is an attention and then an MLP, each after its norm."""
    attention = getattr(block, "attn", None)  # parallel blocks have none, or several
    if not (isinstance(block, Block) and isinstance(attention, Attention)):
        beside = "" if attention is None else f" with {type(attention).__name__}"
        raise Unsupported(
            f"block {index} is a {type(block).__name__}{beside}, which is not known; expected "
            "timm's Block with Attention"
        )
    if attention.gate is not None:
        raise Unsupported(f"the attention of block {index} is gated, which is not known")


def blocks(model: nn.Module) -> list[Any]:
    """Return the transformer blocks in order.

    Raises:
        Unsupported: the model has none that we know.
    """
    return list(vision_transformer(model).blocks)


def width(model: nn.Module) -> int:
    """Return the embedding dimension."""
    return int(vision_transformer(model).embed_dim)


def final_norm(model: nn.Module) -> nn.Module:
    """Return the normalisation after the last block."""
    norm: nn.Module = vision_transformer(model).norm
    return norm


class Branched(nn.Module):
    """A vision transformer whose backward pass goes through a branch and not through its blocks.

    Stands in front of timm's ``VisionTransformer``.

    Attributes:
        branch: a module whose ``blocks`` are blocks of timm's and whose ``norm`` comes after them.
    """

    branch: Any


def stored_blocks(model: nn.Module) -> list[Any]:
    """Return the blocks whose activations are stored: the model's own, or those of its branch.

    Raises:
        Unsupported: the model has none that we know.
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

    Some models have two, whose logits are averaged or added: distilled ones, one for each of their
    leading tokens, and VOLO, whose second one reads the patches. Both are then in the list of
    modules returned, which is not itself a part of the model.

    Raises:
        Unsupported: the model has no head, or one without parameters.
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
    """Return heads that timm begins anew for other classes, and does not call the classifier."""
    named: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    places = (named,) if isinstance(named, str) else tuple(named)
    known = {part for own in heads for part in own.modules()}
    modules = dict(model.named_modules())
    found = (modules[place] for place in places if place in modules)
    return [part for part in found if part not in known]


def tokens_read(model: nn.Module) -> int:
    """Return how many leading tokens the head reads that pools none: two if it is distilled."""
    return 1 if getattr(model, "dist_token", None) is None else 2


def require_class_token(model: nn.Module) -> None:
    """Check that one class token leads the sequence and feeds the head.

    Raises:
        Unsupported: there is none, there are registers beside it, or the head pools otherwise.
    """
    vit = vision_transformer(model)
    if vit.cls_token is None:
        raise Unsupported("the model has no class token whose attention could rank the others")
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
    """Check that the model has the blocks an option names.

    Args:
        model: a plain vision transformer.
        option: its name.
        wanted: its value.
        paper: its default, where that is the paper's choice for 12 blocks.

    Raises:
        Unsupported: the default meets another depth, or the model lacks blocks that are named.
    """
    depth = len(blocks(model))
    if depth != PAPER_DEPTH and wanted == paper:  # first: the person may have named no block
        raise Unsupported(
            f"the default {option} is the paper's choice for {PAPER_DEPTH} blocks; "
            f"the model has {depth}, so set {option}"
        )
    if missing := [index for index in wanted if index >= depth]:
        raise Unsupported(f"{option} names blocks {missing}; the model has 0 to {depth - 1}")


def passes_all(part: nn.Module) -> bool:
    """Tell whether a module that stands where dropout may stand passes on what it is given."""
    never = type(part) is nn.Identity
    return never or (type(part) is nn.Dropout and not (part.training and part.p > 0))
