"""What methods must train, pass on and compute, worked out from names, shapes and papers.

Nothing here imports a method: these are the numbers that methods are held against.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

RANK, BOTTLENECK, PROMPTS, REDUCTION, MERGED, KEPT = 8, 64, 5, 8, 13, 0.5
EVIT_KEPT = 0.7
SIDE_RANK, QUERIES, WIDE, NARROW = 2, 10, 64, 32
INPUT_RANKS = (1, 4, 8)  # of images, tokens and channels; every mode of the smallest input shrinks
PAPERS = 12  # blocks
LAST = 3  # blocks that 'late' trains
# Ranks are set: else they follow from numbers, and a random weight needs nearly all.
OF_ANY_DEPTH: dict[str, dict[str, Any]] = {
    "asi": {"ranks": INPUT_RANKS},
    "wasi": {"rank": RANK, "ranks": INPUT_RANKS},
}


@dataclass(frozen=True)
class Blocks:
    """The blocks that options name, in a model of so many."""

    trained: tuple[int, ...]
    dropping: tuple[int, ...]
    beside: tuple[int, ...]

    def options(self, method: str, depth: int) -> dict[str, Any]:
        """Return what to set where the paper's choice, made for twelve blocks, does not fit."""
        if method in OF_ANY_DEPTH:
            return OF_ANY_DEPTH[method]
        if depth == PAPERS or depth < LAST:
            return {}
        found: dict[str, dict[str, Any]] = {
            "bsr": {"trained_blocks": self.trained, "drop_at": self.dropping},
            "evit": {"drop_at": self.dropping},
            "repnet": {"side_blocks": self.beside},
            "dtl": {"first": depth // 2},
            "sparse_tuning": {"drop_at": self.later()},
        }
        return found.get(method, {})

    def later(self) -> tuple[int, ...]:
        """Return where tokens are dropped if the first block cannot drop any."""
        return tuple(index for index in self.dropping if index > 0)


def blocks_of(depth: int) -> Blocks:
    """Return the papers' blocks of twelve, and blocks spread alike of another number."""
    if depth == PAPERS:
        return Blocks((3, 7, 11), (3, 6, 9), (2, 5, 8, 11))
    thirds = tuple(sorted({depth // 3, 2 * depth // 3, depth - 1}))
    quarters = tuple(sorted({depth // 4, depth // 2, 3 * depth // 4}))
    return Blocks(thirds, quarters, (depth // 2 - 1, depth - 1))


def trained(method: str, model: Any) -> int:
    """Return how many parameters a method trains of a model that nothing has touched.

    Of a plain vision transformer, or of any model for methods that ask nothing of blocks.
    """
    sizes = {name: part.numel() for name, part in model.named_parameters()}
    heads = model.pretrained_cfg["classifier"]
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    head = _under(sizes, heads)
    if method in FROM_NAMES:
        return head + FROM_NAMES[method](model, sizes, heads)
    if method in ADDED:
        return head + ADDED[method](model)
    return sum(sizes.values()) - (_saved_by_factors(model) if method == "wasi" else 0)


def _under(sizes: dict[str, int], places: Iterable[str]) -> int:
    """Return the parameters of the modules at some places."""
    starts = tuple(f"{place}." for place in places)
    return sum(size for name, size in sizes.items() if name.startswith(starts))


def _biases(_: Any, sizes: dict[str, int], heads: tuple[str, ...]) -> int:
    starts = tuple(f"{place}." for place in heads)
    return sum(
        size
        for name, size in sizes.items()
        if name.endswith("bias") and not name.startswith(starts)
    )


def _norms(model: Any, _: dict[str, int], __: tuple[str, ...]) -> int:
    return sum(
        own.numel()
        for part in model.modules()
        if "LayerNorm" in type(part).__name__ or "RmsNorm" in type(part).__name__
        for own in part.parameters(recurse=False)
    )


def _chosen(model: Any, sizes: dict[str, int], _: tuple[str, ...]) -> int:
    chosen = blocks_of(len(model.blocks)).trained
    return _under(sizes, ["norm", *(f"blocks.{index}" for index in chosen)])


def _last(model: Any, sizes: dict[str, int], _: tuple[str, ...]) -> int:
    depth = len(model.blocks)
    return _under(sizes, ["norm", *(f"blocks.{index}" for index in range(depth - LAST, depth))])


FROM_NAMES: dict[str, Callable[..., int]] = {
    "head": lambda *_: 0,
    "bias": _biases,
    "norm": _norms,
    "bsr": _chosen,
    "late": _last,
}


def _lora(model: Any) -> int:
    shapes = [block.attn.qkv.weight.shape for block in model.blocks]
    return sum(RANK * (outputs + inputs) for outputs, inputs in shapes)


def _dora(model: Any) -> int:
    return _lora(model) + sum(block.attn.qkv.weight.shape[0] for block in model.blocks)


def _adapter(model: Any) -> int:
    dim = model.embed_dim
    return len(model.blocks) * (2 * dim * BOTTLENECK + BOTTLENECK + dim)


def _prompt(model: Any) -> int:
    return len(model.blocks) * PROMPTS * int(model.embed_dim)


def _ladder(model: Any) -> int:
    """Count narrow blocks with a layer down to each and a gate, and what is around them."""
    dim = model.embed_dim
    narrow = dim // REDUCTION
    hidden = model.blocks[0].mlp.fc1.weight.shape[0] // REDUCTION
    own = _block(narrow, hidden, qkv_bias=model.blocks[0].attn.qkv.bias is not None)
    rung = own + dim * narrow + narrow + 1
    enter, leave = dim * narrow + narrow, narrow * dim + dim
    return len(model.blocks) * rung + enter + 2 * narrow + leave


def _repnet(model: Any) -> int:
    """Count new blocks of full width, and the norm after the last block."""
    dim, own = model.embed_dim, model.blocks[0].attn.qkv.bias is not None
    beside = blocks_of(len(model.blocks)).beside
    last = sum(part.numel() for part in model.norm.parameters())
    return len(beside) * _block(dim, 4 * dim, qkv_bias=own) + int(last)


def _block(dim: int, hidden: int, *, qkv_bias: bool) -> int:
    """Count a plain block: two norms, qkv, the projection, and an MLP, all but qkv with biases."""
    attention = 3 * dim * dim + 3 * dim * qkv_bias + dim * dim + dim
    return 4 * dim + attention + dim * hidden + hidden + hidden * dim + dim


def _dtl(model: Any) -> int:
    return len(model.blocks) * 2 * int(model.embed_dim) * SIDE_RANK


def _vqt(model: Any) -> int:
    """Count queries, and a number of the new layer for each of theirs and each class."""
    found = len(model.blocks) * QUERIES * int(model.embed_dim)
    return found + found * int(model.num_classes)


def _sparse_tuning(model: Any) -> int:
    """Count five layers with biases: down, down, up, both together, and up."""
    dim = int(model.embed_dim)
    shapes = ((dim, WIDE), (WIDE, NARROW), (NARROW, WIDE), (WIDE + NARROW, WIDE), (WIDE, dim))
    return len(model.blocks) * sum(inputs * outputs + outputs for inputs, outputs in shapes)


def _dyt(model: Any) -> int:
    """Count a bottleneck, and a layer with one output and a bias, in each block."""
    return _adapter(model) + len(model.blocks) * (int(model.embed_dim) + 1)


def _saved_by_factors(model: Any) -> int:
    """Count by how much two factors are smaller than the weights of the blocks' Linear layers."""
    return sum(
        max(0, part.weight.numel() - RANK * sum(part.weight.shape)) for part in _linears(model)
    )


def _linears(model: Any) -> list[nn.Linear]:
    """Return the Linear layers of the blocks."""
    return [part for part in model.blocks.modules() if isinstance(part, nn.Linear)]


ADDED: dict[str, Callable[[Any], int]] = {
    "lora": _lora,
    "dora": _dora,
    "adapter": _adapter,
    "prompt": _prompt,
    "ladder": _ladder,
    "repnet": _repnet,
    "dtl": _dtl,
    "vqt": _vqt,
    "sparse_tuning": _sparse_tuning,
    "dyt": _dyt,
}


def tokens(method: str, entering: int, depth: int) -> tuple[int, ...]:
    """Return how many tokens each block passes on, by the methods' published arithmetic."""
    chosen, last = blocks_of(depth), tuple(range(depth - LAST, depth))
    at = {
        "bsr": (chosen.dropping, KEPT),
        "evit": (chosen.dropping, EVIT_KEPT),
        "late": (last, KEPT),
        "sparse_tuning": (chosen.later(), EVIT_KEPT),
    }
    fused = method != "sparse_tuning"
    left, now = [], entering + (PROMPTS if method == "prompt" else 0)
    for index in range(depth):
        places, rate = at.get(method, ((), 1.0))
        if index in places and index < depth - 1:
            others = now - 1
            kept = math.ceil(rate * others)
            # class token, kept ones, the fused one
            now = now if kept == others else 1 + kept + fused
        if method == "tome":
            now -= min(MERGED, (now - 1) // 2)
        left.append(now)
    return tuple(left)


def evaluated(method: str, model: Any) -> tuple[int, ...]:
    """Return how many tokens pass the MLP of each block of a plain model in evaluation."""
    depth, all_tokens = len(model.blocks), entering(model)
    if method == "dyt":
        learned = _learned(model)
        return (learned + math.ceil(KEPT * (all_tokens - learned)),) * depth
    return tokens(method, all_tokens, depth)


def more_macs(method: str, model: Any) -> int | None:
    """Return the multiply-adds that one image costs in evaluation, more than without a method.

    ``None`` for methods of which nobody has worked it out.
    """
    all_tokens, dim = entering(model), int(model.embed_dim)
    if method == "asi":  # only what training stores is another
        return 0
    if method == "wasi":
        return -all_tokens * _saved_by_factors(model)
    if method == "dyt":
        added = len(model.blocks) * all_tokens * dim * (2 * BOTTLENECK + 1)
        skipped = all_tokens - evaluated(method, model)[0]
        whole = sum(part.numel() for block in model.blocks for part in _matrices(block.mlp))
        return added - skipped * whole
    return None


def _matrices(mlp: Any) -> Iterable[Any]:
    return (part for part in mlp.parameters() if part.dim() > 1)


def entering(model: Any) -> int:
    """Return how many tokens enter the first block of a plain one: learned ones, and patches."""
    return _learned(model) + math.prod(model.patch_embed.grid_size)


def _learned(model: Any) -> int:
    """Return how many tokens are not patches: a class token, a distillation token, registers."""
    return sum(
        part.shape[1]
        for name, part in model.named_parameters()
        if name in {"cls_token", "reg_token", "dist_token"}
    )
