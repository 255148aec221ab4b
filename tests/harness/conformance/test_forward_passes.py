"""Promises about the forward passes of a step and about a loss of one's own can be broken."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from bsrbench import methods
from bsrbench.harness.conformance import forward_passes as checks
from bsrbench.harness.conformance.subject import BrokenPromise, Subject
from bsrbench.harness.method import Kind, Method
from bsrbench.methods.full import FullFineTuning


@dataclass(frozen=True)
class Twice(FullFineTuning):
    """Full fine-tuning with a loss from two forward passes."""

    forward_passes: ClassVar = 2

    def losses(self, model, forward, loss_of):
        yield loss_of(forward())
        yield loss_of(forward()) / 2


class SaysOnce(Twice):
    forward_passes: ClassVar = 1


class StaysInEvaluation(Twice):
    def losses(self, model, forward, loss_of):
        yield from super().losses(model, forward, loss_of)
        model.eval()


class YieldsNothing(Twice):
    def losses(self, model, forward, loss_of):
        loss_of(forward())
        yield from ()


class YieldsOnePerImage(Twice):
    def losses(self, model, forward, loss_of):
        yield from super().losses(model, forward, loss_of)
        yield forward().sum(1)[:1]


class YieldsWithoutGradient(Twice):
    def losses(self, model, forward, loss_of):
        yield loss_of(forward()).detach()


class HasNoCrossEntropy(Twice):
    def losses(self, model, forward, loss_of):
        yield forward().square().mean()


class SaysThatItDiffers(Twice):
    evaluates_alike: ClassVar = False


BROKEN = [
    (
        checks.step_has_the_forward_passes_it_declares,
        SaysOnce,
        "forward_passes is 1, but a step has 2",
    ),
    (
        checks.step_has_the_forward_passes_it_declares,
        StaysInEvaluation,
        "after a step, a part of the model is not in training mode",
    ),
    (checks.loss_is_made_of_cross_entropies, YieldsNothing, r"terms of shapes \[\]; expected at"),
    (
        checks.loss_is_made_of_cross_entropies,
        YieldsOnePerImage,
        r"terms of shapes \[\[\], \[\], \[1\]\]; expected",
    ),
    (
        checks.loss_is_made_of_cross_entropies,
        YieldsWithoutGradient,
        "yields a term without a gradient",
    ),
    (
        checks.loss_is_made_of_cross_entropies,
        HasNoCrossEntropy,
        "does not call loss_of",
    ),
    (
        checks.evaluation_differs_as_declared,
        SaysThatItDiffers,
        "evaluates_alike is False, but a forward pass has [0-9,]* FLOPs in training and in",
    ),
]


def subject(made):
    return Subject("made", lambda _: type(made), lambda _, **__: made)


@pytest.mark.parametrize(("check", "cls", "said"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_a_broken_promise_is_found(check, cls, said):
    with pytest.raises(BrokenPromise, match=said):
        check(subject(cls()))


@pytest.mark.parametrize(
    "check",
    [
        checks.step_has_the_forward_passes_it_declares,
        checks.loss_is_made_of_cross_entropies,
        checks.evaluation_differs_as_declared,
    ],
    ids=lambda check: check.__name__,
)
def test_a_method_that_keeps_them_is_told_nothing(check):
    for made in (Twice(), methods.load("mezo"), methods.load("dyt")):
        check(subject(made))


def test_a_method_that_says_nothing_has_one_pass_and_the_cross_entropy():
    assert (Method.forward_passes, Method.evaluates_alike) == (1, True)
    assert Kind.DROPS_TOKENS not in Twice().kinds
