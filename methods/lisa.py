"""LISA, layerwise importance sampled AdamW: train a few blocks, drawn anew after some steps."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method, State, Unsupported
from bsrbench.harness.model.vit import blocks
from bsrbench.methods.parts.moving_blocks import shuffled, train_at_times
from bsrbench.methods.parts.option_checks import check_at_least


@dataclass(frozen=True)
class LayerwiseSampling(Method):
    """Train everything outside the blocks, and a few blocks that are drawn anew after some steps.

    Stores what the gradient needs to pass through all blocks, because the embeddings below them
    always train, and in the blocks that train the inputs of weights. Gradients and optimizer state
    exist for these blocks and for what is outside of blocks. When other blocks are drawn, the
    optimizer state of those that no longer train is dropped. Approximates nothing in the backward
    pass. Does not save the forward pass, nor the gradient's way through all blocks. As in the
    official code, embeddings, final norm and head always train, and every set of blocks is equally
    likely. Each block is in the same number of the measured sets, which are neighbours, so the mean
    of time and FLOPs over them is that over all sets; the largest peak is among them.

    Attributes:
        blocks: number of blocks that train at a time; 2 is chosen here, the official script: 1.
        steps: number of steps until other blocks are drawn; the official script: 20.
    """

    blocks: int = 2
    steps: int = 20

    source = "Pan et al. 2024 (LISA), arXiv:2403.17919, section 3; official code LMFlow"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        check_at_least("blocks", self.blocks, 1)
        check_at_least("steps", self.steps, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Check that the model has enough blocks; all of it trains at times."""
        depth = len(blocks(model))
        if self.blocks > depth:
            raise Unsupported(f"blocks = {self.blocks}, but the model has only {depth} blocks")
        train_at_times(model, [model])
        return model

    def states(self, model: nn.Module) -> tuple[State, ...]:
        """Return the sets of neighbouring blocks; the last block is a neighbour of the first."""
        depth = len(blocks(model))
        sets = (
            tuple(sorted((first + more) % depth for more in range(self.blocks)))
            for first in range(depth)
        )
        return tuple(dict.fromkeys(sets))

    def state_at(self, step: int, seed: int, model: nn.Module) -> State:
        """Return the blocks that train at a step."""
        drawn = shuffled(len(blocks(model)), seed, step // self.steps)
        return tuple(sorted(drawn[: self.blocks]))

    def enter(self, model: nn.Module, state: State) -> None:
        """Make the state's blocks trainable, and freeze the others."""
        for number, block in enumerate(blocks(model)):
            block.requires_grad_(number in state)

    def cycle_steps(self, model: nn.Module) -> int:
        """Return the number of steps in which every block trains once, if chance is even."""
        return self.steps * -(-len(blocks(model)) // self.blocks)
