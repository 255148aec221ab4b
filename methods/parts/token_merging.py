"""Merge similar tokens in pairs, and count the patches that each token represents."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.attention import attend_with_keys
from bsrbench.harness.model.vit import RunsBlocks, blocks
from bsrbench.methods.parts.block_side_data import BlockSideData, TakesSideData
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.token_dropping import ChangesTokens, require_all_tokens


def merged_tokens(count: int, most: int) -> int:
    """Return how many of ``count`` tokens a block merges, at most ``most``.

    It merges at most half of the tokens that follow the first one, which can be a class token.
    """
    return max(0, min(most, (count - 1) // 2))


def merge_in(model: Any, merged: tuple[int, ...], *, class_token: bool, proportional: bool) -> None:
    """Make each block of a model merge tokens.

    Args:
        model: a plain vision transformer.
        merged: for each block, the largest number of tokens to merge.
        class_token: the first token is a class token, which is never merged.
        proportional: add the logarithm of a token's number of patches to its attention scores.

    Raises:
        Unsupported: a block already changes the number of tokens; or the model runs
            its blocks one by one, which would lose the sizes of the tokens.
    """
    if isinstance(model, RunsBlocks):
        raise Unsupported(
            "an earlier method reads the model's blocks one by one, so the sizes of merged tokens "
            "would be lost between blocks"
        )
    require_all_tokens(model)
    carried = BlockSideData()
    extend(model.blocks, BeginsWithPatches, carried=carried)
    for block, most in zip(blocks(model), merged, strict=True):
        extend(
            block,
            MergesTokens,
            inside=True,
            carried=carried,
            wanted=most,
            class_token=class_token,
            proportional=proportional,
        )


class BeginsWithPatches(nn.Module):
    """A chain of blocks that merge tokens; each token at its input represents one patch."""

    carried: BlockSideData

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        exact = torch.promote_types(x.dtype, torch.float32)
        self.carried.now = torch.ones(x.shape[:2], dtype=exact, device=x.device)
        x = super().forward(x)
        self.carried.now = None
        return x


class MergesTokens(ChangesTokens, TakesSideData):
    """A timm block that merges tokens between its attention and its MLP (ToMe, section 3).

    The side data are the numbers of patches that the tokens represent, [batch, tokens].
    """

    wanted: int
    class_token: bool
    proportional: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        block: Any = self  # it has the submodules of timm's Block
        sizes = self._entering(x)
        bias = sizes.log() if self.proportional else None
        attended, keys = attend_with_keys(block.attn, block.norm1(x), bias)
        x = x + block.drop_path1(block.ls1(attended))
        merged = merged_tokens(x.shape[1], self.wanted)
        if merged:
            places = match(keys, merged, class_token=self.class_token)
            x, sizes = merge(x, sizes, places, x.shape[1] - merged)
        self.carried.now = sizes
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output

    def _entering(self, x: Tensor) -> Tensor:
        sizes = self.carried.now
        if sizes is None:
            raise RuntimeError(
                "a block that merges tokens runs outside its model's chain of blocks, so the sizes "
                "of the tokens are not known; to recompute blocks in the backward pass, use "
                "'tome+checkpoint'"
            )
        if sizes.shape != x.shape[:2]:
            raise Unsupported(
                f"{x.shape[1]} tokens enter a block, but the output of the previous block has "
                f"{sizes.shape[1]}: no other code can add or drop tokens between blocks that merge"
            )
        return sizes


@torch.no_grad()
def match(keys: Tensor, merged: int, *, class_token: bool) -> Tensor:
    """Choose the tokens to merge, by bipartite soft matching.

    Tokens are divided alternately into two sets. Each token of the first set is matched with the
    token of the second set that has the most similar key. The most similar pairs are merged.
    Similarities are computed in fp32 or fp64.

    Args:
        keys: [batch, tokens, head dim].
        merged: number of tokens of the first set to merge.
        class_token: the first token is not merged.

    Returns:
        [batch, tokens], the index of each token in the output. The output has the remaining tokens
        of the first set in their order, then the second set.
    """
    kind = keys.device.type
    # The device meta has no autocast that could be switched off. torch has a function that tells
    # which devices have autocast, but torch.compile of 2.11 does not support it.
    known = kind != "meta"
    with torch.autocast(kind, enabled=False) if known else nullcontext():
        exact = F.normalize(keys.to(torch.promote_types(keys.dtype, torch.float32)), dim=-1)
        scores = exact[:, ::2] @ exact[:, 1::2].transpose(1, 2)
    likeness, partner = scores.max(-1)
    if class_token:
        likeness[:, 0] = -torch.inf  # in the first set, so it is no partner of a token either
    going = likeness.argsort(dim=1, descending=True, stable=True)[:, :merged]
    stays = torch.ones_like(partner).scatter_(1, going, 0)
    kept = partner.shape[1] - merged
    places = partner.new_empty(keys.shape[:2])
    places[:, ::2] = torch.where(stays == 1, stays.cumsum(1) - 1, kept + partner)
    places[:, 1::2] = torch.arange(kept, keys.shape[1] - merged, device=keys.device)
    return places


def merge(x: Tensor, sizes: Tensor, places: Tensor, left: int) -> tuple[Tensor, Tensor]:
    """Average the tokens that have the same output index, weighted by their sizes.

    For the backward pass autograd saves indices and weights, no tokens.

    Args:
        x: [batch, tokens, dim].
        sizes: [batch, tokens], number of patches of each token; has no gradient.
        places: [batch, tokens], output index of each token.
        left: number of output tokens.

    Returns:
        The output tokens [batch, left, dim] and their sizes [batch, left].
    """
    joined = sizes.new_zeros(len(x), left).scatter_add(1, places, sizes)
    weighted = x * (sizes / joined.gather(1, places)).to(x.dtype).unsqueeze(-1)
    # All tokens are rows of one table: torch adds complete rows several times faster than it adds
    # along the middle dimension.
    first = torch.arange(len(x), device=x.device).unsqueeze(1) * left
    rows = (first + places).view(-1, 1).expand(-1, x.shape[2])
    table = weighted.new_zeros(len(x) * left, x.shape[2])
    return table.scatter_add(0, rows, weighted.flatten(0, 1)).unflatten(0, (-1, left)), joined
