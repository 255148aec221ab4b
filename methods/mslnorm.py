"""MS-LN: LayerNorm and the Linear layer behind it share one stored tensor."""

from dataclasses import dataclass
from typing import Any, ClassVar

from timm.models.vision_transformer import Block
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
    deviation per token. Stores these for each norm, so the two norms of a block store two tensors
    [batch, tokens, dim] less. Approximates nothing. It acts on the norms of blocks that a Linear
    layer follows: those before attention and MLP, and those inside both, if a model has them. The
    last norm is left out, because the head reads only a part of its output.

    Does not save anything where the Linear layer is frozen: there only the norm stores a tensor, as
    before. Where something else stores the input of a norm anyway, it costs one tensor more: in
    blocks of ``dtl`` and ``sparse_tuning``, whose new layers read the tokens before the norm. The
    down-projections of ``lora`` and ``adapter`` read the output of a norm, and share. Under bf16
    autocast the shared tensor is in fp32: one tensor of 4 bytes per number replaces one of 4 and
    one of 2.

    The paper merges scale and shift into the weights of the following layer, and trains the merged
    weights. Here the parameters of the model stay as they are, with exact gradients; forward and
    backward pass multiply and add once more for it. MS-RMSNorm, the paper's norm for language
    models, is not implemented. ``regelu2+mslnorm`` is the whole method of the paper.
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
        for outer in chain:
            # An earlier method can have added a new block inside this block.
            within = [part for part in outer.modules() if isinstance(part, Block)]
            for norm in [norm for block in within for norm in _norms_before_layers(block)]:
                extend(norm, KeepsNormalised)
            for part in [part for part in outer.modules() if isinstance(part, nn.Linear)]:
                extend(part, ReadsNormalised)
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Do the same in a model whose GELUs store levels."""
        return self.prepare(model)


def _require_norms(index: int, block: Any) -> None:
    for norm in (block.norm1, block.norm2):
        if not isinstance(norm, nn.LayerNorm) or norm.weight is None:
            weights = "with" if getattr(norm, "weight", None) is not None else "without"
            raise Unsupported(
                f"a norm of block {index} is a {type(norm).__name__} {weights} weights; this "
                "method is for blocks whose norms are LayerNorms with weights"
            )


def _norms_before_layers(block: Any) -> list[nn.LayerNorm]:
    """Return the norms whose output a Linear layer reads; those of queries and keys are none."""
    inside = (block.attn.norm, getattr(block.mlp, "norm", None))
    norms = (block.norm1, block.norm2, *inside)
    return [norm for norm in norms if isinstance(norm, nn.LayerNorm) and norm.weight is not None]
