"""Promises of methods that store weights: an error that is declared wrongly, weights that train."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.conformance import promises
from bsrbench.harness.conformance.subject import BrokenPromise, Subject
from bsrbench.harness.conformance.weight_storage import stores_weights_in_fewer_bytes
from bsrbench.harness.method import Kind
from bsrbench.methods.int8w import EightBitWeights


def subject(changed):
    """Return head and a changed int8w."""

    def load(name, **_):
        assert name == "head+int8w"
        return type(methods.load(name))(parts=(methods.load("head"), changed))

    return Subject("int8w", methods.find, load)


@dataclass(frozen=True)
class TooSmall(EightBitWeights):
    forward_error: ClassVar = 1e-3


@dataclass(frozen=True)
class TooLarge(EightBitWeights):
    forward_error: ClassVar = 0.5


@dataclass(frozen=True)
class FreezesMore(EightBitWeights):
    def prepare(self, model):
        model.head.bias.requires_grad_(False)
        return super().prepare(model)


@dataclass(frozen=True)
class StoresNothing(EightBitWeights):
    def prepare(self, model):
        return model


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (TooSmall(), "forward_error is 0.001, but the logits differ by 0.0"),
        (TooLarge(), "differ by only 0.0"),
    ],
)
def test_a_forward_error_that_is_too_small_or_too_large_is_named(changed, said):
    with pytest.raises(BrokenPromise, match=said):
        promises.forward_promise(subject(changed))


def test_a_method_that_stores_no_weights_declares_no_error():
    @dataclass(frozen=True)
    class Declares(type(methods.load("head"))):
        forward_error: ClassVar = 0.1

    declaring = Subject("head", methods.find, lambda *_, **__: Declares())
    with pytest.raises(BrokenPromise, match=r"forward_error is 0\.1, but .* 'stores weights'"):
        promises.forward_promise(declaring)


def test_weights_must_be_stored_in_fewer_bytes_and_the_same_must_train():
    with pytest.raises(BrokenPromise, match="bytes without storing weights"):
        stores_weights_in_fewer_bytes(subject(StoresNothing()))
    with pytest.raises(BrokenPromise, match=r"other parameters train .*head\.bias"):
        stores_weights_in_fewer_bytes(subject(FreezesMore()))


def test_a_lost_weight_that_is_not_stored_is_named():
    @dataclass(frozen=True)
    class Forgets(EightBitWeights):
        def prepare(self, model):
            made = super().prepare(model)
            with torch.no_grad():
                made.blocks[3].mlp.fc1.weight_scales.mul_(2)
            return made

    with pytest.raises(BrokenPromise, match="lost or copied parameters"):
        promises.keeps_the_parameters(subject(Forgets()))
    assert Kind.STORES_WEIGHTS in Forgets.kinds
