"""MeZO: estimate the gradient along a random direction from two forward passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.random_directions import Direction


@dataclass(frozen=True)
class ZerothOrder(Method):
    """Estimate the gradient from the losses of two forward passes, without a backward pass.

    In each step all trained parameters are moved along one random direction z and back the same
    way to the other side. The estimate of the gradient is z times the difference of the losses,
    divided by twice the way. Stores no activations, no gradient and no direction: z is drawn again
    from its seed whenever it is needed, in pieces on all threads. The optimizer updates one
    parameter after the other. With SGD without momentum there is no optimizer state; other
    optimizers keep their state. The estimate is right in the mean, but very noisy, so many more
    steps are needed, with a smaller learning rate. Approximates the gradient. Does not save the
    second forward pass, and draws three numbers per trained parameter and step. As in the paper,
    the forward passes are in evaluation mode. The official code draws z a fourth time, because it
    restores the parameters before it updates them. Micro-batches give the same losses with less
    memory. Clipping is not defined, and there is nothing to scale in fp16.

    Attributes:
        epsilon: how far parameters are moved, relative to a standard normal direction; the paper:
            1e-3.
    """

    epsilon: float = 1e-3

    source = "Malladi et al. 2023 (MeZO), arXiv:2305.17333, section 2, algorithm 1"
    exact_forward = True
    forward_passes = 2
    kinds: ClassVar = frozenset({Kind.ESTIMATES_GRADIENT, Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon {self.epsilon} must be greater than 0")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model as it is."""
        return model

    def gradients(
        self,
        model: nn.Module,
        parameters: Sequence[Tensor],
        loss: Callable[[], Tensor],
        seed: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each parameter, of any shape, with its part of the estimate, of the same shape.

        Each parameter is back where it was when it is yielded.
        """
        training = model.training
        with Direction(parameters, seed) as direction:
            model.eval()
            try:
                direction.move(self.epsilon)
                above = loss()
                direction.move(-2 * self.epsilon)
                slope = (above - loss()) / (2 * self.epsilon)
            finally:
                model.train(training)
            yield from direction.move_each(self.epsilon, slope)
