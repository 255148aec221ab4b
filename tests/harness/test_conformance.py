"""Each promise can be seen broken, and an author is told how."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import nn

import methods
from harness.conformance.checks import CHECKS, examine, examined
from harness.conformance.subject import Subject
from harness.method import Kind, Method
from harness.vit import blocks, head
from methods.parts.freeze import train_only


@dataclass(frozen=True)
class Honest(Method):
    """Train the head.

    Stores the head's input. Approximates nothing. Does not save the forward pass.
    """

    source = "baseline"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        train_only(model, [head(model)])
        return model


class NoCard(Honest):
    __doc__ = ""


class NoFacts(Method):
    """Stores x. Approximates nothing. Does not save y."""

    def prepare(self, model):
        return model


class KindsAsText(Honest):
    kinds: ClassVar = {"selects weights"}


class NoDataclass(Honest):
    """Stores x. Approximates nothing. Does not save y."""

    rank: int = 4


@dataclass(frozen=True)
class HiddenOption(Honest):
    """Stores x. Approximates nothing. Does not save y."""

    secret: int = 3


class ShortCard(Honest):
    """Does things."""


class UnknownPair(Honest):
    """Stores x. Approximates nothing. Does not save y."""

    refines: ClassVar = frozenset({"bsr"})


class ReturnsNothing(Honest):
    """Stores x. Approximates nothing. Does not save y."""

    def prepare(self, model):
        super().prepare(model)


class CopiesParameters(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.cls_token = nn.Parameter(model.cls_token.detach().clone())
        return model


class ChangesNumbers(Honest):
    exact_forward = False  # so that nothing but the numbers themselves gives it away

    def prepare(self, model):
        super().prepare(model)
        model.cls_token.data.mul_(2)
        return model


class ChangesTheType(Honest):
    def prepare(self, model):
        return super().prepare(model).half()


class ChangesTheImages(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.register_forward_pre_hook(lambda _, inputs: (inputs[0].mul_(2),))
        return model


class ChangesLogits(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.register_forward_hook(lambda _, __, logits: 2 * logits)
        return model


class WrongGradient(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.register_forward_hook(lambda _, __, logits: logits + 0.5 * (logits.detach() - logits))
        return model


class LooseBound(Honest):
    gradient_error = 0.5


class MovesTheFrozen(Honest):
    def prepare(self, model):
        super().prepare(model)
        with torch.no_grad():
            model.register_forward_hook(lambda *_: model.cls_token.data.add_(1e-3))
        return model


class TrainsNothing(Honest):
    def prepare(self, model):
        return model.requires_grad_(False)


class NeverUsed(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.spare = nn.Parameter(torch.zeros(1))
        return model


class ActsAtRandom(Honest):
    calls: ClassVar = []

    def prepare(self, model):
        super().prepare(model)
        self.calls.append(1)
        noise = float(len(self.calls))
        model.head.register_forward_pre_hook(lambda _, inputs: (inputs[0] + noise,))
        return model


class SavesNothing(Honest):
    def prepare(self, model):
        return model


class HidesTokens(Honest):
    def tokens(self, entering, depth=12):
        return (entering - 1,) * depth


class DropsInTrainingAlone(Honest):
    """Drops every second token before block 6, as long as it trains."""

    exact_forward = False

    def prepare(self, model):
        super().prepare(model)
        model.blocks[6].register_forward_pre_hook(
            lambda block, inputs: (inputs[0][:, ::2],) if block.training else None
        )
        return model

    def tokens(self, entering, depth=12):
        return (entering,) * 6 + ((entering + 1) // 2,) * 6


class SaysThatItDropsInTrainingAlone(DropsInTrainingAlone):
    """Drops every second token before block 6, in training only."""


class ChangesLogitsInEvaluation(Honest):
    def prepare(self, model):
        super().prepare(model)
        model.register_forward_hook(
            lambda model, _, logits: logits if model.training else 2 * logits
        )
        return model


class OverflowsInHalf(Honest):
    def prepare(self, model):
        super().prepare(model)
        far = 2 * torch.finfo(torch.float16).max

        def push(_, __, logits):
            return logits + far if logits.dtype == torch.bfloat16 else logits

        model.register_forward_hook(push)
        return model


class ForgetsItsState(Honest):
    def prepare(self, model):
        super().prepare(model)
        shift = torch.randn(())
        model.head.register_forward_pre_hook(lambda _, inputs: (inputs[0] + shift,))
        return model


class PreparesTwice(Honest):
    def prepare(self, model):
        model.requires_grad_(False)
        head(model).requires_grad_(True)
        return model


class BreaksTheGraph(Honest):
    compiles = True

    def prepare(self, model):
        super().prepare(model)
        blocks(model)[5].register_forward_hook(lambda *_: torch._dynamo.graph_break())
        return model


@dataclass(frozen=True)
class LosesOptions(Honest):
    """Stores x. Approximates nothing. Does not save y.

    Attributes:
        pairs: changed by JSON.
    """

    pairs: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.pairs.append(1)


BROKEN = {
    "declares_what_a_method_must": (NoFacts, KindsAsText, NoDataclass),
    "describes_itself": (NoCard, LosesOptions),
    "documents_every_option": (HiddenOption,),
    "card_says_the_three_things": (ShortCard,),
    "pairs_are_on_the_card": (UnknownPair,),
    "keeps_the_parameters": (
        *(ReturnsNothing, CopiesParameters),
        *(ChangesNumbers, ChangesTheType),
    ),
    "forward_promise": (ChangesLogits, ChangesTheImages, ChangesLogitsInEvaluation),
    "gradient_promise": (WrongGradient, LooseBound),
    "ten_steps_learn_and_move_the_trained_and_only_those": (
        *(MovesTheFrozen, TrainsNothing),
        NeverUsed,
    ),
    "same_seed_same_gradients": (ActsAtRandom,),
    "holds_less_than_full_fine_tuning": (SavesNothing,),
    "passes_on_the_tokens_it_declares": (HidesTokens, DropsInTrainingAlone),
    "runs_in_bf16_near_fp32": (OverflowsInHalf,),
    "state_dict_round_trip": (ForgetsItsState,),
    "says_that_a_model_is_prepared_already": (PreparesTwice,),
    "compiles_in_one_piece": (BreaksTheGraph,),
}


def subject_of(cls):
    """Return a subject that is found though it stands in no file of its own."""

    def find(name):
        return cls if name == "mine" else methods.find(name)

    def load(name, **options):
        return cls(**options) if name == "mine" else methods.load(name, **options)

    return Subject("mine", find, load)


def broken_by(cls):
    return {found.check.name(): found.broken for found in examine(subject_of(cls)) if found.broken}


def test_an_honest_method_keeps_every_promise():
    assert broken_by(Honest) == {}


def test_every_check_is_seen_to_fail():
    assert set(BROKEN) == {check.name() for check in CHECKS}


@pytest.mark.parametrize(
    ("check", "cls"),
    [(check, cls) for check, classes in BROKEN.items() for cls in classes],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_broken_promise_is_found(check, cls):
    (wanted,) = [known for known in CHECKS if known.name() == check]

    assert examined(wanted, subject_of(cls)).broken


def test_what_an_authors_code_raises_is_said_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from harness.method import Method, Kind\n"
        "class Mine(Method):\n"
        "    source, exact_forward, kinds = 'baseline', True, frozenset()\n"
        "    def prepare(self, model):\n"
        "        return model.no_such_thing\n"
    )
    name = f"{path}:Mine"
    found = {e.check.name(): e for e in examine(Subject(name, methods.find, methods.load))}
    broken = found["keeps_the_parameters"]

    assert broken.broken.startswith("AttributeError: ")
    assert broken.where == "mine.py:5"


@pytest.mark.parametrize(
    ("cls", "check"),
    [(NoFacts, "declares_what_a_method_must"), (ReturnsNothing, "keeps_the_parameters")],
)
def test_what_the_other_promises_need_is_the_only_thing_said(cls, check):
    assert set(broken_by(cls)) == {check}


def test_tokens_may_change_in_training_only_if_the_card_says_so():
    (check,) = [known for known in CHECKS if known.name() == "passes_on_the_tokens_it_declares"]

    assert not examined(check, subject_of(SaysThatItDropsInTrainingAlone)).broken
