"""AdaptFormer's bottleneck, and the checks of its options."""

from typing import Any

from torch import Tensor, nn

from bsrbench.methods.parts.option_checks import check_at_least


def check_bottleneck(bottleneck: int, scale: float, dropout: float) -> None:
    """Check the options of a bottleneck.

    Raises:
        ValueError: ``bottleneck`` is less than 1, ``scale`` is 0, or ``dropout`` is not in [0, 1).
    """
    check_at_least("bottleneck", bottleneck, 1)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout {dropout} must lie in [0, 1)")
    if scale == 0:
        raise ValueError("scale 0 leaves the bottleneck without effect")


class Bottleneck(nn.Module):
    """A bottleneck: down-projection, ReLU, dropout, up-projection, multiplication by ``scale``.

    The layer down is initialised like torch's Linear layers, with bias 0. The layer up starts at 0.

    Args:
        dim: number of channels of input and output.
        inner: number of inner channels.
        scale: factor of the output.
        dropout: share of the inner activations dropped in training.
        where: device and type of the weights.
    """

    def __init__(
        self, dim: int, inner: int, *, scale: float, dropout: float, where: dict[str, Any]
    ) -> None:
        super().__init__()
        self.down = nn.Linear(dim, inner, **where)
        self.drop = nn.Dropout(dropout)
        self.up = nn.Linear(inner, dim, **where)
        self.scale = scale
        for start in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        output: Tensor = self.up(self.drop(self.down(x).relu())) * self.scale
        return output
