"""What may be asked of a vision transformer; Unsupported where a model cannot answer."""

from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from harness.method import PAPER_DEPTH, Unsupported


def vision_transformer(model: nn.Module) -> VisionTransformer:
    """Return ``model`` if it is one of timm's plain vision transformers.

    Raises:
        Unsupported: it is something else, or its blocks are not plain pre-norm blocks.
    """
    if not isinstance(model, VisionTransformer):
        raise Unsupported(f"{type(model).__name__} is not one of timm's VisionTransformer models")
    for block in model.blocks:
        if not (isinstance(block, Block) and isinstance(block.attn, Attention)):
            raise Unsupported(
                f"blocks of {type(block).__name__} with {type(block.attn).__name__} are not known; "
                "expected timm's Block with Attention"
            )
        if block.attn.gate is not None:
            raise Unsupported("gated attention is not known")
    return model


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


def head(model: nn.Module) -> nn.Module:
    """Return the classification head of any timm model.

    Raises:
        Unsupported: the model has no head, or one without parameters.
    """
    find = getattr(model, "get_classifier", None)
    found = find() if callable(find) else None
    if not isinstance(found, nn.Module) or not list(found.parameters()):
        raise Unsupported(f"{type(model).__name__} has no classification head to train")
    return found


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
    model: nn.Module, option: str, wanted: tuple[int, ...], paper: tuple[int, ...]
) -> None:
    """Check that the model has the blocks an option names.

    Raises:
        Unsupported: it has not, or the paper's choice for 12 blocks meets another depth.
    """
    depth = len(blocks(model))
    if missing := [index for index in wanted if index >= depth]:
        raise Unsupported(f"{option} names blocks {missing}; the model has 0 to {depth - 1}")
    if depth != PAPER_DEPTH and wanted == paper:
        raise Unsupported(
            f"the default {option} is the paper's choice for {PAPER_DEPTH} blocks; "
            f"the model has {depth}, so set {option}"
        )


def queries_keys_values(attention: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project tokens [batch, tokens, dim] to q, k, v, each [batch, heads, tokens, head dim]."""
    batch, count, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, attention.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(q), attention.k_norm(k), v


def attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Mix the values with torch's fused attention and project: [batch, tokens, dim]."""
    dropped = attention.attn_drop.p if attention.training else 0.0
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
    joined = mixed.transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)
    output: Tensor = attention.proj_drop(attention.proj(attention.norm(joined)))
    return output


def class_attention(attention: Any, q: Tensor, k: Tensor) -> Tensor:
    """Return the class token's softmax attention to the other tokens, mean over heads.

    Only this one row of the attention matrix is computed. The product is element-wise because a
    batched matrix product would first copy all keys.

    Returns:
        [batch, tokens - 1], in fp32 at least.
    """
    scores = (q[:, :, :1] * k).sum(-1) * attention.scale
    exact = torch.promote_types(scores.dtype, torch.float32)
    row: Tensor = scores.softmax(-1, dtype=exact)[:, :, 1:].mean(1)
    return row
