"""ASI: store the inputs of trained Linear layers in Tucker form."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.tucker_inputs import RankChoice, keep_inputs_in_subspaces


@dataclass(frozen=True)
class ActivationSubspaceIteration(Method):
    """Store the input of each trained Linear layer as a small core and three factors.

    Stores the Tucker form of the input [images, tokens, channels] of each Linear layer of the
    blocks whose weight trains: a core [first rank, second rank, third rank], and for each mode a
    factor [size, rank] with orthonormal columns. Each forward pass moves a factor by one subspace
    iteration: it is multiplied by A A^T, where A is the unfolding of the input, and made
    orthonormal by QR in fp32. It starts where the last input of the layer ended; the first start is
    random. So factors are kept between steps; they are in the state dict. The ranks of a layer are
    chosen on its first batch and stay. Approximates the gradients of these weights by those of the
    projected input, which is never made whole. Gradients of inputs and biases are exact.

    A mode of full rank has no factor. An input is stored whole if its form has no fewer numbers, or
    if it is stored anyway: as the output of fused attention, or where a block recomputes GELU from
    GELU's input (the trained blocks of ``bsr``). Gradients are exact there; the official code
    approximates them too. A batch with fewer images than the first rank keeps them all. A batch
    that is smaller than the usual one, such as the last of an epoch, draws its factor of images
    anew. Each micro-batch is one iteration. In fp16, forms are computed and stored in fp32.

    Does not save the inputs of norms and of GELU, queries, keys and values, weights, gradients,
    optimizer state, or anything in a mixture of experts. The iterations cost FLOPs in the forward
    pass; the backward pass has fewer. Memory can be predicted only if ``ranks`` are set.
    A profile runs on noise, which has other ranks than photographs, and in the last blocks of a
    pretrained model almost none: so set ``ranks`` to compare memory or time. The first random start
    has the shape of a factor here, and that of the other modes in the official code.
    The paper also chooses ranks by a search over measured errors of gradients under a byte budget.
    This is left out, because it first needs the exact gradients with all inputs stored whole, which
    a device that needs the method cannot hold. ``regelu2+asi`` means: GELU's input is also stored
    in few bits; it is the largest tensor that is left.

    Attributes:
        explained: share of the squared norm of the input that the rank of each mode explains, in
            (0, 1]; 0.8 if neither option is set; the paper: 0.4 to 0.9.
        ranks: ranks of images, tokens and channels, the same for all layers, instead of those that
            follow from ``explained``.
    """

    explained: float | None = None
    ranks: tuple[int, ...] = ()

    source = "Nguyen et al. 2025 (ASI), arXiv:2505.05086, section 3; official code 3ce480c of WASI"
    exact_forward = True
    gradient_error = 0.6
    evaluates_alike = False
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    refines: ClassVar = frozenset({"regelu2"})

    def __post_init__(self) -> None:
        self._choice()

    def _choice(self) -> RankChoice:
        return RankChoice(self.explained, self.ranks)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the Linear layers of the blocks store their inputs in Tucker form.

        Raises:
            Unsupported: no such layer trains, or ranks are larger than what they should shrink.
        """
        keep_inputs_in_subspaces(model, self._choice())
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Do the same in a model whose GELUs store levels."""
        return self.prepare(model)

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - see Method
        """Return that numbers depend on the data, if the ranks do."""
        return self._choice().facts()

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int | None:  # noqa: ARG002 - see Method
        """Return ``None``: it depends on the ranks, and on the layers that train."""
        return None
