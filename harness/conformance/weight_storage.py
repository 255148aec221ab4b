"""Checks of methods that store frozen weights in fewer bits."""

from typing import Any

import torch
from torch import Tensor, nn

from bsrbench.harness.composition import without_stored_weights
from bsrbench.harness.conformance.subject import Subject, require, tiny_batch
from bsrbench.harness.method import Kind
from bsrbench.harness.model import stored_weight
from bsrbench.harness.model.stored_weight import FactoredWeight

SLACK = 4  # a declared bound may be at most this many times the measured error
OTHER_BLOCKS = 5  # the error on blocks of another kind may be so many times the declared one
PROJECTED = 1e-3  # relative error of the square of a projection's norm; rounding is far smaller
ROUNDED = 0.2  # largest relative distance between a weight and the one that is stored for it


def not_stored(made: nn.Module, lost: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return the lost parameters for which the model stores no rounded weight in parts.

    The product of two factors may be far from a weight, but must be a projection of it.
    """
    left = list(lost)
    for layer in stored_weight.stored_weights(made):
        weight: Any = layer.weight
        whole = weight.detach()
        factored = isinstance(layer, FactoredWeight)
        stands_for = _is_projection_of if factored else _is_near
        near = [p for p in left if p.shape == whole.shape and stands_for(whole, p.detach())]
        left = [p for p in left if not any(p is other for other in near[:1])]
    return left


def _is_near(whole: Tensor, parameter: Tensor) -> bool:
    return _apart(whole, parameter) < ROUNDED


def _is_projection_of(whole: Tensor, parameter: Tensor) -> bool:
    """Return whether what a tensor lacks of a parameter is orthogonal to it, and is not all."""
    square = float((whole * whole).sum())
    return abs(float((whole * parameter).sum()) - square) < PROJECTED * square


def require_forward_error(subject: Subject) -> None:
    """Check that ``forward_error`` bounds the logits' relative change by storing weights.

    Raises:
        BrokenPromise: the error is larger, or the bound is loose or missing.
    """
    method = subject.method()
    if Kind.STORES_WEIGHTS not in method.kinds:
        require(
            method.forward_error == 0,
            f"forward_error is {method.forward_error:g}, but the method does not have the kind "
            f"'{Kind.STORES_WEIGHTS}'",
        )
        return
    images, _ = tiny_batch()
    with torch.no_grad():
        logits = method.prepare(subject.model()).eval()(images)
        exact = without_stored_weights(method).prepare(subject.model()).eval()(images)
    error = _apart(logits, exact)
    # Bounds are declared for usual blocks.
    require(
        error <= method.forward_error * (OTHER_BLOCKS if subject.changes else 1),
        f"forward_error is {method.forward_error:g}, but the logits differ by {error:.2g} of those "
        "with whole weights",
    )
    require(
        "+" in subject.name or bool(subject.changes) or error >= method.forward_error / SLACK,
        f"forward_error is {method.forward_error:g}, but the logits differ by only {error:.2g}: "
        f"declare at most {SLACK} times the measured error",
    )


def stores_weights_in_fewer_bytes(subject: Subject) -> None:
    """A method that stores weights leaves fewer bytes of parameters, and the same ones train."""
    method = subject.method()
    if Kind.STORES_WEIGHTS not in method.kinds:
        return
    made = method.prepare(subject.model())
    whole = without_stored_weights(method).prepare(subject.model())
    require(
        _bytes(made) < _bytes(whole),
        f"the parameters have {_bytes(made):,} bytes, and {_bytes(whole):,} bytes without storing "
        "weights",
    )
    names, expected = _trained(made), _trained(whole)
    require(
        names == expected,
        f"other parameters train than without storing weights: {sorted(names ^ expected)[:4]}",
    )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative distance of two tensors in the Euclidean norm."""
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def _bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}
