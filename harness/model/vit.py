"""What may be asked of a vision transformer; Unsupported where a model cannot answer."""

from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

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


def queries_keys_values(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split qkv [batch, tokens, 3 dim] into q, k, v, each [batch, heads, tokens, head dim]."""
    parts = qkv.unflatten(2, (3, attention.num_heads, attention.head_dim))
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(q), attention.k_norm(k), v


def attention_matrix(attention: Any, q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(head dim) + bias), which fused attention never holds whole.

    Returns:
        [batch, heads, tokens, tokens].
    """
    scores: Tensor = (q * attention.scale) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1)


class Mixes(nn.Module):
    """An attention module that a method makes mix the values in a way of its own.

    Stands in front of timm's ``Attention``; ``attend`` asks it.
    """

    def mix(
        self,
        qkv: Tensor,  # noqa: ARG002 - for those who override it
        *,
        ranked: bool,  # noqa: ARG002
        bias: Tensor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None] | None:
        """Mix the values of qkv [batch, tokens, 3 dim]; here as ever.

        ``bias`` [batch, 1, 1, tokens] is added to the scores of each key and has no gradient; it
        does not come together with ``ranked``.

        Returns:
            Mixed values [batch, tokens, dim], and with ``ranked`` what ``class_attention``
            returns; ``None`` leaves this call to the plain way.
        """
        return None

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Attend [batch, tokens, dim] to itself."""
        return attend(self, x)[0]


def attend(
    attention: Any, tokens: Tensor, *, ranked: bool = False, exact: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Let tokens [batch, tokens, dim] attend to each other: what timm's ``Attention`` does.

    Args:
        attention: timm's module.
        tokens: its input.
        ranked: return what ``class_attention`` does, too.
        exact: hold the whole attention matrix instead of using torch's fused attention.
    """
    qkv = attention.qkv(tokens)
    own = attention.mix(qkv, ranked=ranked) if isinstance(attention, Mixes) else None
    mixed, row = own or mix(attention, qkv, ranked=ranked, exact=exact)
    return _project(attention, mixed), row


def attend_with_keys(
    attention: Any, tokens: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Let tokens [batch, tokens, dim] attend to each other, and return their keys, too.

    Args:
        attention: timm's module.
        tokens: its input.
        bias: [batch, tokens], added to the scores of each token as a key; has no gradient.

    Returns:
        What ``attend`` returns, and the keys, mean over heads, [batch, tokens, head dim], without
        gradient.
    """
    qkv = attention.qkv(tokens)
    keys = queries_keys_values(attention, qkv.detach())[1].mean(1)
    scores = None if bias is None else bias.detach().to(qkv.dtype)[:, None, None]
    packs = isinstance(attention, Mixes)
    own = attention.mix(qkv, ranked=False, bias=scores) if packs else None
    mixed, _ = own or mix(attention, qkv, ranked=False, exact=False, bias=scores)
    return _project(attention, mixed), keys


def _project(attention: Any, mixed: Tensor) -> Tensor:
    output: Tensor = attention.proj_drop(attention.proj(attention.norm(mixed)))
    return output


def mix(
    attention: Any, qkv: Tensor, *, ranked: bool, exact: bool, bias: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Mix the values of qkv [batch, tokens, 3 dim] the plain way.

    Arguments are those of ``attend``, and the ``bias`` of ``Mixes.mix``.

    Returns:
        Mixed values [batch, tokens, dim], and with ``ranked`` what ``class_attention`` returns.
    """
    q, k, v = queries_keys_values(attention, qkv)
    drop = attention.attn_drop
    # Fused attention drops by itself, and whatever else stands there is given the whole matrix.
    # Types in a tuple: torch 2.9 compiles no union of them.
    if exact or not isinstance(drop, (nn.Dropout, nn.Identity)):
        matrix = attention_matrix(attention, q, k, bias)
        mixed = drop(matrix) @ v
    else:
        matrix = None
        dropped = drop.p if attention.training and isinstance(drop, nn.Dropout) else 0.0
        mixed = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=dropped
        )
    row = class_attention(attention, q, k, matrix) if ranked else None
    return mixed.transpose(1, 2).flatten(2), row


def class_attention(attention: Any, q: Tensor, k: Tensor, matrix: Tensor | None = None) -> Tensor:
    """Return the class token's softmax attention to the other tokens, mean over heads.

    Read from the ``attention_matrix`` where one is given; else only this one row of it is
    computed. The product is element-wise because a batched matrix product would first copy all
    keys.

    Returns:
        [batch, tokens - 1], in fp32 at least.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    if matrix is None:
        scores = (q[:, :, :1] * k).sum(-1) * attention.scale
        rows = scores.softmax(-1, dtype=exact)
    else:
        rows = matrix[:, :, 0].to(exact)
    mean: Tensor = rows[:, :, 1:].mean(1)
    return mean
