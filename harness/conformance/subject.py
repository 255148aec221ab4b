"""The subject of a check: a method, a tiny real model and a batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.method import Kind, Method

CLASSES, SIDE, BATCH, PATCH, WIDTH, DEPTH = 5, 32, 16, 8, 32, 12
TOKENS = (SIDE // PATCH) ** 2 + 1


class BrokenPromise(Exception):  # noqa: N818 - says what a method did not keep
    """A method breaks a promise; the message says what was measured and what to change."""


@dataclass(frozen=True)
class Subject:
    """A method under examination.

    Attributes:
        name: the name of the method, or of several joined by ``+``.
        find: returns the class of one method.
        load: returns a method with its options set.
        options: options of the method; an empty mapping means its default options.
        changes: settings of timm that replace those of the tiny model, for other kinds of blocks.
    """

    name: str
    find: Callable[[str], type[Method]]
    load: Callable[..., Method]
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    def method(self) -> Method:
        """Return the method, after the one that it follows, if it cannot be used alone."""
        first = "" if "+" in self.name else self.find(self.name).follows
        if not first:
            return self.load(self.name, **self.options)
        return self.load(f"{first}+{self.name}", **{self.name: dict(self.options)})

    def model(self, seed: int = 0) -> VisionTransformer:
        """Return a tiny model that no method has touched."""
        return tiny_model(seed, **self.changes)

    def card(self) -> str:
        """Return the docstrings of all parts of the method as one line of text."""
        return " ".join(
            " ".join(str(self.find(part).__doc__).split()) for part in self.name.split("+")
        )

    def prepared(self, seed: int = 0) -> nn.Module:
        """Return a tiny model that the method has prepared; it is in its first state."""
        return ready(self.method(), self.model(seed))


def ready(method: Method, model: nn.Module) -> nn.Module:
    """Return a model that a method has prepared, in its first state if the method has states."""
    made = method.prepare(model)
    for state in method.states(made)[:1]:
        method.enter(made, state)
    return made


def estimates(method: Method) -> bool:
    """Return whether a method estimates gradients, instead of having a backward pass."""
    return Kind.ESTIMATES_GRADIENT in method.kinds


def backward(
    method: Method, model: nn.Module, batch: tuple[Tensor, Tensor], seed: int = 0
) -> Tensor:
    """Give the trained parameters their gradients in the method's way, and return the loss.

    Args:
        method: the method.
        model: the model that it has prepared.
        batch: images [batch, 3, side, side] and labels [batch].
        seed: seed of estimates.
    """
    losses: list[Tensor] = []
    if not estimates(method):
        for term in terms(method, model, batch):
            term.backward()
            losses.append(term.detach())
        return torch.stack(losses).sum()

    def asked() -> Tensor:
        losses.append(cross_entropy_of(model, batch))
        return losses[-1]

    with torch.no_grad():
        for parameter, gradient in method.gradients(model, trained(model), asked, seed):
            parameter.grad = gradient
    return torch.stack(losses).mean()


def tiny_model(seed: int = 0, **changes: Any) -> VisionTransformer:
    """Return a model of twelve blocks and width 32; the same seed gives the same weights.

    Args:
        seed: seed of the random weights.
        changes: settings of timm's ``VisionTransformer`` that replace the usual ones.
    """
    torch.manual_seed(seed)
    settings = {
        "img_size": SIDE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "depth": DEPTH,
        "num_heads": 4,
        "num_classes": CLASSES,
    }
    return VisionTransformer(**settings | changes)


def tiny_batch() -> tuple[Tensor, Tensor]:
    """Return images [16, 3, 32, 32], each the pattern of its class plus noise, and labels [16]."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    noise = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator)
    return patterns[labels] + 0.5 * noise, labels


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


def cross_entropy_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy of images [batch, 3, side, side] and labels [batch]."""
    images, labels = batch
    return cross_entropy(model(images), labels)


def terms(method: Method, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
    """Return the terms of a method's loss, each of shape []; each can have a backward pass.

    Args:
        method: a method that does not estimate gradients.
        model: the model that it has prepared.
        batch: images [batch, 3, side, side] and labels [batch].
    """
    images, labels = batch
    return method.losses(model, lambda: model(images), lambda logits: cross_entropy(logits, labels))


def loss_of(method: Method, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the whole loss of a method, of shape [].

    The arguments are those of ``terms``: images are [batch, 3, side, side], labels [batch].
    """
    return torch.stack(list(terms(method, model, batch))).sum()


def require(kept: bool, said: str) -> None:
    """Raise ``BrokenPromise`` unless the promise is kept."""
    if not kept:
        raise BrokenPromise(said)


def names_of(model: nn.Module, parameters: list[nn.Parameter]) -> str:
    """Return the names of the first four parameters, and the number of the others."""
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = [named.get(id(p), "a parameter that is not in the model") for p in parameters]
    most = 4
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
