"""One method on one model: does it work, and are its numbers those that were worked out apart?"""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.method import Method, Unsupported, apply
from bsrbench.harness.predict.fake_step import fake_numbers
from tests.walk import counts, listing, reasons, rules

EQUAL = "="
UNCOUNTED = (
    "uncounted"  # all is equal but the multiply-adds, which the program says it cannot trace
)
CUT = 3  # blocks of the models that a step is made on
IMAGES = 2
SMALL = 150_000_000  # parameters; a larger model makes its step without numbers, for its memory
DECOMPOSES = {"wasi"}  # and so does what has singular values of weights, for its time


class Wrong(Exception):  # noqa: N818 - says what a method did otherwise than was worked out
    """A method's number is not the one that was worked out apart from it."""


@dataclass(frozen=True)
class Step:
    """What was seen of a step of training and of a forward pass.

    Attributes:
        traced_macs: the program's own count for one image; ``None`` where it says there is none.
        counted_macs: torch's.
        evaluated: how many tokens each block's MLP passed on then.
        tokens: how many it passed on in training.
        bare: names of parameters that train and got no gradient.
    """

    traced_macs: int | None
    counted_macs: int
    evaluated: tuple[int, ...]
    tokens: tuple[int, ...]
    bare: frozenset[str]


class Subject:
    """A model at one side of its images, whole and cut to a few blocks.

    Args:
        name: of timm.
        side: of its images; ``None`` is the model's own.
    """

    def __init__(self, name: str, side: int | None) -> None:
        self.name, self.side = name, side
        self._outlines: dict[int | None, Any] = {}

    def model(self, depth: int | None = None) -> Any:
        """Return a new one without numbers, of fewer blocks if that is asked for."""
        return deepcopy(self._outline(depth))

    def drawn(self) -> Any:
        """Return a new one with numbers, cut."""
        return deepcopy(self._drawn)

    def _outline(self, depth: int | None) -> Any:
        if depth not in self._outlines:
            self._outlines[depth] = listing.outline(self.name, **self._settings(depth))
        return self._outlines[depth]

    @cached_property
    def _drawn(self) -> Any:
        settings = self._settings(self.cut)
        return timm.create_model(self.name, num_classes=listing.CLASSES, **settings)

    def _settings(self, depth: int | None) -> dict[str, int]:
        side = {} if self.side is None else {"img_size": self.side}
        return side if depth is None else side | {"depth": depth}

    @cached_property
    def untouched(self) -> Any:
        """Return one that no method is given."""
        return self._outline(None)

    @cached_property
    def pixels(self) -> int:
        """Return the side of its images."""
        return self.side or int(self.untouched.pretrained_cfg["input_size"][-1])

    @cached_property
    def depth(self) -> int:
        """Return how many blocks it has in a row."""
        return len(getattr(self.untouched, "blocks", ()))

    @cached_property
    def cut(self) -> int | None:
        """Return how many blocks are enough for a step, since all are alike; ``None`` is all."""
        if not listing.is_plain(self.untouched) or self.depth <= CUT:
            return None
        alike = listing.structure(self.untouched) == listing.structure(self._outline(CUT))
        return CUT if alike else None

    @cached_property
    def is_small(self) -> bool:
        """Tell whether its step is made with numbers, several times faster than without."""
        return sum(part.numel() for part in self._outline(self.cut).parameters()) < SMALL

    @cached_property
    def usual(self) -> Step:
        """Return what is seen of full fine-tuning."""
        return step_of(self, "full")


def tree(model: nn.Module) -> list[tuple[str, type]]:
    """Return the names and classes of all modules: what a forward pass runs."""
    return [(name, type(part)) for name, part in model.named_modules()]


def outcome(subject: Subject, method: str) -> str:
    """Return ``=`` if a method works and every number is right, or the key of what is not.

    Raises:
        Wrong: a number is another than was worked out.
        ValueError: a reason is unknown, or not true.
    """
    depth = subject.depth
    made = methods.load(method, **rules.blocks_of(depth).options(method, depth))
    try:
        prepared = apply(made, subject.model())
    except Unsupported as said:
        return reasons.key_of(str(said), subject.untouched)
    found = sum(part.numel() for part in prepared.parameters() if part.requires_grad)
    _same("trained parameters", found, rules.trained(method, subject.untouched))
    if listing.is_plain(subject.untouched):
        entering = rules.entering(subject.untouched)
        expected = rules.tokens(method, entering, depth)
        _same("tokens declared", made.tokens(entering, depth), expected)
    return _checked_step(subject, method)


def _checked_step(subject: Subject, method: str) -> str:
    step = subject.usual if method == "full" else step_of(subject, method)
    _same("parameters without gradient", step.bare - subject.usual.bare, frozenset())
    if step.tokens:
        entering = rules.entering(subject.untouched)
        expected = rules.tokens(method, entering, len(step.tokens))
        _same("tokens passed on", step.tokens, expected)
        _checked_evaluation(subject, method, step)
    if step.traced_macs is None:
        return UNCOUNTED
    _same("multiply-adds", step.traced_macs, step.counted_macs)
    return EQUAL


def _checked_evaluation(subject: Subject, method: str, step: Step) -> None:
    model = subject.model(subject.cut)
    _same("tokens of MLPs in evaluation", step.evaluated, rules.evaluated(method, model))
    more = rules.more_macs(method, model)
    if more is not None:
        expected = subject.usual.counted_macs + more
        _same("multiply-adds in evaluation", step.counted_macs, expected)


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: {found}, and {expected} were worked out")


def step_of(subject: Subject, name: str) -> Step:
    """Make a step of a method on a model, of few blocks if all are alike."""
    with_numbers = subject.is_small and name not in DECOMPOSES
    model = subject.drawn() if with_numbers else subject.model(subject.cut)
    before = tree(model)
    method, prepared = _prepared(model, name)
    as_usual = name != "full" and tree(prepared) == before  # so is the forward pass
    side = subject.pixels
    with nullcontext() if with_numbers else fake_numbers(method, prepared):
        tokens = _train(method, prepared, torch.zeros(IMAGES, 3, side, side))
        own = prepared.named_parameters()
        bare = frozenset(name for name, p in own if p.requires_grad and p.grad is None)
    if as_usual:
        return replace(subject.usual, tokens=tokens, bare=bare)
    outline = _prepared(subject.model(subject.cut), name)[1]
    traced = _traced(outline, side)
    if with_numbers:
        image = torch.arange(3.0 * side**2).sin().view(1, 3, side, side)  # no two patches alike
        with torch.no_grad():
            method.settle(prepared, image)
        return Step(traced, *_counted(prepared, image), tokens, bare)
    image = torch.empty(1, 3, side, side, device="meta")
    return Step(traced, *_counted(outline, image), tokens, bare)


def _prepared(model: Any, name: str) -> tuple[Method, nn.Module]:
    depth = len(getattr(model, "blocks", ()))
    method = methods.load(name, **rules.blocks_of(depth).options(name, depth))
    return method, apply(method, model)


def _traced(prepared: nn.Module, side: int) -> int | None:
    try:
        return forward_macs(prepared, torch.empty(1, 3, side, side, device="meta")).total
    except Unreadable:
        return None


def _counted(prepared: nn.Module, image: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the multiply-adds of an image in evaluation, and the tokens that MLPs passed on."""
    seen = _watched(prepared)
    return counts.multiply_adds(prepared, image), tuple(seen)


def _train(method: Method, model: nn.Module, images: Tensor) -> tuple[int, ...]:
    """Go forward and backward, and return the tokens that MLPs of blocks in a row passed on."""
    seen = _watched(model.train())
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    terms = method.losses(
        model, lambda: model(images), lambda logits: cross_entropy(logits, labels)
    )
    for term in terms:
        term.backward()
    return tuple(seen)


def _watched(model: Any) -> list[int]:
    """Return a list that gets the tokens each MLP passes on when it runs for the first time."""
    seen: list[int] = []
    own = listing.is_plain(model)
    mlps = [block.mlp for block in model.blocks if hasattr(block, "mlp")] if own else []

    def note(index: int, output: Tensor) -> None:
        if len(seen) == index:  # it can run again, for other tokens or in the backward pass
            seen.append(output.shape[1])

    for index, mlp in enumerate(mlps):
        mlp.register_forward_hook(lambda *run, index=index: note(index, run[-1]))
    return seen
