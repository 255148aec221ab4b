"""Gradient checkpointing: store the input of each block, recompute its other activations."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import stored_blocks
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.rerun_block import contexts


class Checkpointed(nn.Module):
    """A block that is recomputed in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] as the block does, storing only its input."""
        output: Tensor = checkpoint(
            super().forward,
            x,
            use_reentrant=False,
            preserve_rng_state=False,  # torch hides the saved state from meters; see contexts
            context_fn=partial(contexts, self),
        )
        return output


@dataclass(frozen=True)
class BlockCheckpointing(Method):
    """Recompute the blocks in the backward pass instead of storing their activations.

    Stores one [batch, tokens, dim] tensor per block and the activations of one block at a time. If
    a block draws random numbers from torch's generators, the recomputation draws the same numbers,
    and the state of the generator before the block is stored too (5 kB on a CPU). Approximates
    nothing. Costs most of one additional forward pass, with three savings: the last block is not
    recomputed, because its backward pass follows directly; recomputation stops at the last tensor
    needed, so the second MLP layer is not recomputed; blocks below the first trained weight have
    no backward pass. Does not save weights, gradients or optimizer state. The paper divides the
    network into segments; one segment per block is the usual choice for transformers.
    """

    source = "Chen et al. 2016, arXiv:1604.06174, section 4"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make every block except the last recompute itself."""
        for block in stored_blocks(model)[:-1]:
            extend(block, Checkpointed)
        return model
