"""Gradient checkpointing: store the input of each block, recompute its other activations."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import stored_blocks
from bsrbench.harness.spec.memory_size import bytes_of_size
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.option_checks import check_at_least
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

    The first blocks are recomputed first. When the backward pass reaches them, the activations of
    the blocks above are already freed. A last block is recomputed while those below are still
    stored, so recomputing the n last blocks has about the peak of the n - 1 first ones (DeiT-S,
    batch 16, n = 6: 834 MiB instead of 754 MiB). Below the first trained weight, recomputation
    neither costs nor saves anything.

    A budget is met by prediction, before anything runs: the number of recomputed blocks is the
    least whose predicted peak is within it. The prediction counts tensors, with weights, gradients
    and optimizer state; for an NVIDIA GPU it is the allocator's peak. Workspaces inside operators
    on a CPU and the CUDA context are not included. On an NVIDIA GPU one more recomputed block can
    raise the peak by up to 1 %. So the number is found by bisection: it meets the budget, one
    block less does not, but still fewer blocks may. arXiv:2607.02158 calls such a choice adaptive.

    Attributes:
        blocks: number of first blocks that are recomputed; ``None`` is all except the last.
        budget: memory that the predicted peak of a step must not exceed, such as "1GiB"; it
            chooses ``blocks``. A model that is prepared without the harness, which predicts,
            recomputes all blocks except the last.
    """

    blocks: int | None = None
    budget: str | None = None

    source = "Chen et al. 2016, arXiv:1604.06174, section 4"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.blocks is not None and self.budget is not None:
            raise ValueError(
                f"blocks {self.blocks} and budget {self.budget!r} are both set, but a budget "
                "chooses the number of blocks: leave out one of the two"
            )
        if self.blocks is not None:
            check_at_least("blocks", self.blocks, 0)
        if self.budget is not None:
            _bytes_of(self.budget)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the first blocks recompute themselves."""
        chain = stored_blocks(model)
        count = len(chain) - 1 if self.blocks is None else self.blocks
        if count > len(chain):
            raise Unsupported(f"blocks = {count}, but the model has only {len(chain)} blocks")
        for block in chain[:count]:
            extend(block, Checkpointed)
        return model

    def within(self, predicted_peak: Callable[[Method], int], depth: Callable[[], int]) -> Method:
        """Return the method with as few recomputed blocks as the budget permits.

        Raises:
            Unsupported: no number of blocks meets the budget, or the peak cannot be predicted.
        """
        if self.budget is None:
            return self
        limit, most = _bytes_of(self.budget), depth()

        @cache
        def peak(count: int) -> int:
            return predicted_peak(replace(self, blocks=count, budget=None))

        count = _fewest(lambda count: peak(count) <= limit, most)
        if count is None:
            least = min(range(most + 1), key=peak)
            raise Unsupported(
                f"budget = {self.budget!r} is {limit:,} bytes, but the smallest predicted peak is "
                f"{peak(least):,} bytes, with {least} of {most} blocks recomputed"
            )
        return replace(self, blocks=count, budget=None)

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - the same on every device
        """Return how many blocks are recomputed, if an option or a budget has chosen it."""
        return {} if self.blocks is None else {"recomputed_blocks": self.blocks}


def _bytes_of(budget: str) -> int:
    try:
        return bytes_of_size(budget)
    except ValueError as error:
        raise ValueError(f"budget {error}") from error


def _fewest(fits: Callable[[int], bool], most: int) -> int | None:
    """Return a number from 0 to ``most`` that fits while one less does not; ``None`` if none fits.

    It is the least one if the peak never rises with another block, as on a CPU. A prediction takes
    seconds, so the numbers are bisected. All are tried only if ``most`` itself does not fit.
    """
    if fits(most):
        return bisect_left(range(most), x=True, key=fits)
    return next((count for count in range(most) if fits(count)), None)
