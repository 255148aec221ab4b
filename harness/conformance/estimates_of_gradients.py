"""Check of a method that estimates gradients: its estimate is right in the mean."""

from math import sqrt
from statistics import fmean, stdev

from torch import Tensor, nn

from bsrbench.harness.conformance.subject import backward, cross_entropy_of, require, trained
from bsrbench.harness.method import Method

DRAWS = 200
STANDARD_ERRORS = 4.0


def require_unbiased(method: Method, model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Check that the mean of estimates has the length of the gradient, along the gradient.

    Args:
        method: a method that estimates gradients.
        model: the model that it has prepared, in fp64.
        batch: images [batch, 3, side, side] and labels [batch].

    Raises:
        BrokenPromise: the mean over ``DRAWS`` estimates is further than ``STANDARD_ERRORS`` away.
    """
    parameters = trained(model)
    cross_entropy_of(model.eval(), batch).backward()
    exact = [_gradient(parameter) for parameter in parameters]
    square = sum(float((gradient**2).sum()) for gradient in exact)
    model.train()
    shares = []
    for seed in range(DRAWS):
        backward(method, model, batch, seed)
        along = sum(
            float((_gradient(parameter) * gradient).sum())
            for parameter, gradient in zip(parameters, exact, strict=True)
        )
        shares.append(along / square)
    mean, error = fmean(shares), stdev(shares) / sqrt(DRAWS)
    require(
        abs(mean - 1) <= STANDARD_ERRORS * error,
        f"along the gradient, the mean of {DRAWS} estimates is {mean:.2f} of the gradient, with a "
        f"standard error of {error:.2f}: estimates must be right in the mean",
    )


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a trained parameter has no gradient")
    return parameter.grad
