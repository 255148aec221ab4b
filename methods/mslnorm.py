"""MS-LN: LayerNorm and the Linear layer behind it share one stored tensor."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import stored_blocks
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.normalised_inputs import KeepsNormalised, ReadsNormalised


@dataclass(frozen=True)
class MemorySharingLayerNorm(Method):
    """Store the normalised tokens once, for a LayerNorm and for the Linear layer behind it.

    torch's LayerNorm stores its input, and the Linear layer behind it its own input, if its weight
    trains. Both can be computed from the normalised tokens, before scale and shift, and one
    deviation per token. So the two norms of a block store two tensors [batch, tokens, dim] less.
    Approximates nothing. Does not save anything where the Linear layer is frozen: there only the
    norm stores a tensor, as before. The down-projections of low-rank adapters and of ``adapter``
    are such Linear layers. The paper merges scale and shift into the weights of the Linear
    layer and trains the merged weights. Here the model's parameters stay as they are, with exact
    gradients: the backward pass multiplies and adds once more. It acts on the norms before
    attention and MLP; the last norm is not followed by a Linear layer that reads all tokens.
    ``regelu2+mslnorm`` is the whole method of the paper.
    """

    source = "Yang et al. 2024 (Approx-BP), arXiv:2406.16282, MS-LN; official code d35b090"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    refines: ClassVar = frozenset({"regelu2"})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the norms of each block and the layers behind them share what they store.

        Raises:
            Unsupported: the norms of a block are not LayerNorms with weights.
        """
        chain = stored_blocks(model)
        for index, block in enumerate(chain):
            _require_norms(index, block)
        for part in [part for block in chain for part in block.modules()]:
            if isinstance(part, nn.LayerNorm) and part.weight is not None:
                extend(part, KeepsNormalised)
            elif isinstance(part, nn.Linear):
                extend(part, ReadsNormalised)
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Do the same in a model whose GELUs store levels."""
        return self.prepare(model)


def _require_norms(index: int, block: Any) -> None:
    for norm in (block.norm1, block.norm2):
        if not isinstance(norm, nn.LayerNorm) or norm.weight is None:
            raise Unsupported(
                f"block {index} has {type(norm).__name__} without a known scale; "
                "this method is for blocks whose norms are LayerNorms with weights"
            )
