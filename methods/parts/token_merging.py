"""Merge tokens that are alike, two and two, and keep count of how many each stands for."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.attention import attend_with_keys
from bsrbench.harness.model.vit import Branched, blocks
from bsrbench.methods.parts.block_side_data import BlockSideData, TakesSideData
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.token_dropping import ChangesTokens, require_all_tokens


def merged_tokens(count: int, wanted: int) -> int:
    """Return how many of ``count`` tokens, the first of them protected, can be merged away."""
    return max(0, min(wanted, (count - 1) // 2))


def merge_in(model: Any, wanted: tuple[int, ...], *, class_token: bool, proportional: bool) -> None:
    """Make each block of a model merge tokens.

    Args:
        model: a plain vision transformer.
        wanted: by block, how many tokens to merge away.
        class_token: the first token is one, and never merged.
        proportional: let a token be attended to as often as it has patches in it.

    Raises:
        Unsupported: some block changes the number of tokens already, or a side network reads the
            blocks one by one, which would lose the sizes.
    """
    if isinstance(model, Branched):
        raise Unsupported("a side network reads the model's blocks one by one, between mergings")
    require_all_tokens(model)
    carried = BlockSideData()
    extend(model.blocks, BeginsWithPatches, carried=carried)
    for block, most in zip(blocks(model), wanted, strict=True):
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
    """A chain of blocks that merge tokens; each token that enters it stands for itself."""

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

    What is carried is how many patches each token stands for, [batch, tokens].
    """

    wanted: int
    class_token: bool
    proportional: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        block: Any = self  # its parts are those of timm's Block
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
                "a block that merges tokens runs outside its model's chain of blocks, which knows "
                "the tokens' sizes; to run it again in the backward pass, compose with 'checkpoint'"
            )
        if sizes.shape != x.shape[:2]:
            raise Unsupported(
                f"{x.shape[1]} tokens enter a block, and the one before passed on "
                f"{sizes.shape[1]}: something else changes tokens between blocks that merge them"
            )
        return sizes


@torch.no_grad()
def match(keys: Tensor, merged: int, *, class_token: bool) -> Tensor:
    """Choose tokens to merge: bipartite soft matching.

    Tokens are dealt in turn to two sets; each of the first set finds the one of the second whose
    key is most alike, and the pairs most alike of all are merged. Compared in fp32 at least.

    Args:
        keys: [batch, tokens, head dim].
        merged: how many of the first set's tokens go.
        class_token: the first token stays.

    Returns:
        [batch, tokens], the place of each token among those that stay: the rest of the first set
        in its order, then the second set.
    """
    kind = keys.device.type
    # Shapes alone may be traced on device meta, which knows no autocast to switch off. torch can
    # say which devices do, but not under torch.compile in 2.11.
    known = kind != "meta"
    with torch.autocast(kind, enabled=False) if known else nullcontext():
        exact = F.normalize(keys.to(torch.promote_types(keys.dtype, torch.float32)), dim=-1)
        scores = exact[:, ::2] @ exact[:, 1::2].transpose(1, 2)
    likeness, partner = scores.max(-1)
    if class_token:
        likeness[:, 0] = -torch.inf  # it is of the first set, so nobody's partner either
    going = likeness.argsort(dim=1, descending=True, stable=True)[:, :merged]
    stays = torch.ones_like(partner).scatter_(1, going, 0)
    kept = partner.shape[1] - merged
    places = partner.new_empty(keys.shape[:2])
    places[:, ::2] = torch.where(stays == 1, stays.cumsum(1) - 1, kept + partner)
    places[:, 1::2] = torch.arange(kept, keys.shape[1] - merged, device=keys.device)
    return places


def merge(x: Tensor, sizes: Tensor, places: Tensor, left: int) -> tuple[Tensor, Tensor]:
    """Average tokens that share a place, weighted by their sizes.

    For the backward pass autograd keeps places and weights, no tokens.

    Args:
        x: [batch, tokens, dim].
        sizes: [batch, tokens], patches in each token; has no gradient.
        places: [batch, tokens], where each goes.
        left: how many places there are.

    Returns:
        [batch, left, dim], and their sizes.
    """
    joined = sizes.new_zeros(len(x), left).scatter_add(1, places, sizes)
    weighted = x * (sizes / joined.gather(1, places)).to(x.dtype).unsqueeze(-1)
    # As rows of one table: torch adds whole rows several times faster than along the middle.
    first = torch.arange(len(x), device=x.device).unsqueeze(1) * left
    rows = (first + places).view(-1, 1).expand(-1, x.shape[2])
    table = weighted.new_zeros(len(x) * left, x.shape[2])
    return table.scatter_add(0, rows, weighted.flatten(0, 1)).unflatten(0, (-1, left)), joined
