"""BAdam: train one block after the other."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method, State
from bsrbench.harness.model.vit import blocks, head
from bsrbench.methods.parts.moving_blocks import shuffled, train_at_times
from bsrbench.methods.parts.option_checks import check_at_least

RANDOM, ASCENDING, DESCENDING = "random", "ascending", "descending"
ORDERS = (RANDOM, ASCENDING, DESCENDING)


@dataclass(frozen=True)
class BlockCoordinateTraining(Method):
    """Train one block and the head, and go on to another block after some steps.

    Stores activations from the block that trains on; blocks below it store nothing, because no
    gradient goes there, and frozen blocks above it store only what the gradient needs to pass
    through them. Gradients and optimizer state exist for one block and the head. When the next
    block begins to train, the optimizer state of the last one is dropped, as in the paper; the
    head keeps its own. Approximates nothing in the backward pass. Does not save the forward pass,
    and in the first block's turn not much of the backward pass. The paper excludes the head, which
    its language models have trained already. Here it always trains: a head that starts with zeros
    gives the blocks no gradient. Embeddings and the final norm never train, as in the paper. The
    method is made for Adam, but works with each optimizer. All blocks are measured: memory is the
    largest of them, time and FLOPs are the mean. In a training with several blocks per cycle, the
    random order is drawn anew in each cycle.

    Attributes:
        steps: number of steps that a block trains before the next one; the paper: 100.
        order: random, ascending (from the first block) or descending.
    """

    steps: int = 100
    order: str = RANDOM

    source = "Luo et al. 2024 (BAdam), arXiv:2404.02827, section 2, algorithm 1"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        check_at_least("steps", self.steps, 1)
        if self.order not in ORDERS:
            raise ValueError(f"order {self.order!r} must be one of {', '.join(ORDERS)}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the blocks and the head."""
        train_at_times(model, [*blocks(model), head(model)])
        return model

    def states(self, model: nn.Module) -> tuple[State, ...]:
        """Return every block by itself, from the first one."""
        return tuple((number,) for number in range(len(blocks(model))))

    def state_at(self, step: int, seed: int, model: nn.Module) -> State:
        """Return the block that trains at a step."""
        depth = len(blocks(model))
        cycle, turn = divmod(step // self.steps, depth)
        order = {
            RANDOM: lambda: shuffled(depth, seed, cycle),
            ASCENDING: lambda: list(range(depth)),
            DESCENDING: lambda: list(reversed(range(depth))),
        }[self.order]()
        return (order[turn],)

    def enter(self, model: nn.Module, state: State) -> None:
        """Make the state's block trainable, and freeze the others."""
        for number, block in enumerate(blocks(model)):
            block.requires_grad_(number in state)

    def cycle_steps(self, model: nn.Module) -> int:
        """Return the number of steps until every block has trained."""
        return self.steps * len(blocks(model))
