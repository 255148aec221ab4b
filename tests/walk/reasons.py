"""Why a method may say Unsupported, and what makes each reason a true one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

MANY = 2  # leading tokens are more than one
REDUCTION = 8


@dataclass(frozen=True)
class Reason:
    """A reason.

    Attributes:
        key: stands for it in the table.
        words: matches what the method says.
        holds: tells from the untouched model, and from what was matched, whether it is true.
        meaning: for the page of models.
    """

    key: str
    words: str
    holds: Callable[[Any, re.Match[str]], bool]
    meaning: str


def key_of(said: str, model: nn.Module) -> str:
    """Return the key of a reason.

    Raises:
        ValueError: nobody has written down what would make it true, or it is not.
    """
    for reason in REASONS:
        if found := re.search(reason.words, said):
            if not reason.holds(model, found):
                raise ValueError(f"not true of this model: {said}")
            return reason.key
    raise ValueError(f"an unknown reason: {said}")


def _other_class(model: nn.Module, found: re.Match[str]) -> bool:
    lines = [cls.__name__ for cls in type(model).__mro__]
    return lines[0] == found[1] and "VisionTransformer" not in lines


def _other_block(model: Any, found: re.Match[str]) -> bool:
    block = model.blocks[0]
    attention = type(getattr(block, "attn", None)).__name__
    names = type(block).__name__, attention if attention != "NoneType" else None
    return names == (found[1], found[2]) != ("Block", "Attention")


def _no_class_token(model: nn.Module, _: re.Match[str]) -> bool:
    return not any(name == "cls_token" for name, _ in model.named_parameters())


def _leading(model: nn.Module, found: re.Match[str]) -> bool:
    learned = {"cls_token", "reg_token", "dist_token"}
    count = sum(part.shape[1] for name, part in model.named_parameters() if name in learned)
    return count == int(found[1]) >= MANY


def _pools(model: Any, found: re.Match[str]) -> bool:
    return str(model.global_pool) == found[1] != "token"


def _activation(model: Any, found: re.Match[str]) -> bool:
    """Compare with both forms of GELU on some numbers."""
    name, x = found[1] or found[2], torch.linspace(-3, 3, 41)
    own = next(part for part in model.blocks.modules() if type(part).__name__ == name)
    return not any(torch.allclose(own(x), F.gelu(x, approximate=form)) for form in ("none", "tanh"))


def _tanh(model: Any, _: re.Match[str]) -> bool:
    x = torch.linspace(-3, 3, 41)
    gelu, exact = F.gelu(x, approximate="tanh"), F.gelu(x)
    own = model.blocks[0].mlp.act(x)
    return torch.equal(own, gelu) and not torch.equal(own, exact)


def _other_mlp(model: Any, found: re.Match[str]) -> bool:
    return type(model.blocks[0].mlp).__name__ == found[1] != "Mlp"


def _other_norm(model: Any, found: re.Match[str]) -> bool:
    norms = (model.blocks[0].norm1, model.blocks[0].norm2)
    return any(
        type(norm).__name__ == found[1]
        and not (isinstance(norm, nn.LayerNorm) and list(norm.parameters()))
        for norm in norms
    )


def _has_two_heads(model: nn.Module, _: re.Match[str]) -> bool:
    return any(name == "dist_token" for name, _ in model.named_parameters())


def _pools_by_attention(model: Any, found: re.Match[str]) -> bool:
    return str(model.global_pool) == found[1] not in {"token", "avg"}


def _indivisible(model: Any, found: re.Match[str]) -> bool:
    width, heads = model.blocks[0].attn.qkv.in_features, model.blocks[0].attn.num_heads
    return (width, heads) == (int(found[1]), int(found[2])) and width % (REDUCTION * heads) > 0


# A key that no method says: what the program says of its own counter.
UNCOUNTED = (
    "it trains as worked out, but its multiply-adds cannot be traced without numbers, and are "
    "missing with that reason"
)

REASONS = (
    Reason(
        "other",
        r"^(\w+) is not one of timm's VisionTransformer models",
        _other_class,
        "the model is of another class than timm's `VisionTransformer`",
    ),
    Reason(
        "block",
        r"^block 0 is a (\w+?)(?: with (\w+))?, which is not supported",
        _other_block,
        "its blocks are not one attention and then one MLP, each after its norm",
    ),
    Reason(
        "no-token",
        r"no class token, whose attention ranks the other tokens",
        _no_class_token,
        "it has no class token, whose attention would rank the others",
    ),
    Reason(
        "leading",
        r"the model has (\d+) leading tokens",
        _leading,
        "it has registers or a distillation token beside the class token",
    ),
    Reason(
        "pooled",
        r"the head reads '(\w*)', not the class token",
        _pools,
        "its head reads an average or an attention pool, not the class token",
    ),
    Reason(
        "act",
        r"does not support the activation (\w+)|the activation (\w+) is not GELU",
        _activation,
        "its activation is not GELU, and what the method keeps is made for that",
    ),
    Reason(
        "tanh",
        r"GELU with the approximation 'tanh' is not supported",
        _tanh,
        "its GELU is the one by tanh, and the method's levels fit the exact one",
    ),
    Reason(
        "gated",
        r"the MLP of block 0 is a (\w+), not timm's plain Mlp",
        _other_mlp,
        "its MLPs are gated, and the method makes narrow ones of plain ones",
    ),
    Reason(
        "stem",
        r"prune needs a linear patch projection",
        lambda model, _: not list(model.patch_embed.proj.parameters()),
        "no projection follows its convolutions, by whose weights narrow blocks would be filled; "
        "without `prune` it works",
    ),
    Reason(
        "norms",
        r"a norm of block 0 is a (\w+) with(?:out)? weights",
        _other_norm,
        "the norms of its blocks are not LayerNorms with weights",
    ),
    Reason(
        "heads",
        r"the model has two heads, but the mean|the head is a ModuleList",
        _has_two_heads,
        "it has two heads, and the method is made for one",
    ),
    Reason(
        "read",
        r"the head reads '(\w*)'; this method is for a head",
        _pools_by_attention,
        "its head reads neither the class token nor an average of tokens",
    ),
    Reason(
        "width",
        r"width (\d+) / reduction 8 is not divisible by (\d+) heads",
        _indivisible,
        "an eighth of its width cannot be shared by its heads; another `reduction` can",
    ),
)
