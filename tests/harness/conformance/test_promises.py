"""Each promise can be seen broken, and an author is told how."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.conformance.checks import CHECKS, examine, examined
from bsrbench.harness.conformance.subject import Subject
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head
from bsrbench.methods.parts.trained_parameters import train_only


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
        def move(*_):
            model.cls_token.data.add_(1e-3)

        super().prepare(model)
        model.register_forward_hook(move)
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


class OverflowsInFp16(Honest):
    def prepare(self, model):
        super().prepare(model)
        far = torch.finfo(torch.float16).max

        def push(_, __, logits):
            return logits + far + far if logits.dtype == torch.float16 else logits

        model.register_forward_hook(push)
        return model


class ForgetsItsState(Honest):
    def prepare(self, model):
        super().prepare(model)
        shift = torch.randn(())
        model.head.register_forward_pre_hook(lambda _, inputs: (inputs[0] + shift,))
        return model


class BreaksTheGraph(Honest):
    compiles = True

    def prepare(self, model):
        super().prepare(model)
        blocks(model)[5].register_forward_hook(lambda *_: torch._dynamo.graph_break())
        return model


# Each promise, what breaks it, and how that is said: whatever else was broken would not count.
BROKEN = {
    "keeps_the_parameters": {
        ReturnsNothing: "TypeError: prepare() returned NoneType",
        CopiesParameters: "prepare() lost or copied parameters",
        ChangesNumbers: "prepare() changed the values, type or shape of cls_token",
        ChangesTheType: "prepare() changed the values, type or shape of cls_token, pos_embed",
    },
    "forward_promise": {
        ChangesLogits: "exact_forward is True, but the logits differ from those",
        ChangesTheImages: "the forward pass changed the input images",
        ChangesLogitsInEvaluation: "exact_forward is True, but the logits differ from those",
    },
    "gradient_promise": {
        WrongGradient: "gradient_error is 0.0, but the relative error of the gradient is 0.5",
        LooseBound: "gradient_error is 0.5, but the measured relative error is only",
    },
    "ten_steps_learn_and_move_the_trained_and_only_those": {
        MovesTheFrozen: "frozen parameters changed: cls_token",
        TrainsNothing: "after prepare() no parameter has requires_grad",
        NeverUsed: "trained parameters got no gradient: spare",
    },
    "same_seed_same_gradients": {
        ActsAtRandom: "two runs with the same seed give different gradients"
    },
    "holds_less_than_full_fine_tuning": {SavesNothing: "saves_over_full is True, but after"},
    "passes_on_the_tokens_it_declares": {
        HidesTokens: "tokens(17) declares [16, 16",
        DropsInTrainingAlone: f"tokens(17) declares {[17] * 6 + [9] * 6}, but in evaluation "
        "the MLPs of the blocks got [17",
    },
    "runs_in_bf16_near_fp32": {OverflowsInHalf: "in training mode the logits in bf16 differ"},
    "runs_in_fp16_near_fp32": {OverflowsInFp16: "in training mode the logits in fp16 differ"},
    "state_dict_round_trip": {
        ForgetsItsState: "a second model that loads the state dict of the first"
    },
    "compiles_in_one_piece": {BreaksTheGraph: "Unsupported: Call to `torch._dynamo.graph_break()`"},
}


@pytest.fixture
def broken_by(subject_of):
    """Return what names the promises that a class breaks."""
    return lambda cls: {found.check.name() for found in examine(subject_of(cls)) if found.broken}


def test_an_honest_method_keeps_every_promise(broken_by):
    assert broken_by(Honest) == set()


def test_every_check_of_a_model_is_seen_to_fail():
    """Those of a card are in test_broken_cards.py, those of weights in test_stored_weights.py.

    Those of states are in tests/harness/training/test_states.py, those of the forward passes of a
    step in test_forward_passes.py.
    """
    elsewhere = (".method_card", ".weight_storage", ".method_states", ".forward_passes")
    of_models = {c.name() for c in CHECKS if not c.examine.__module__.endswith(elsewhere)}

    assert set(BROKEN) == of_models


@pytest.mark.parametrize(
    ("check", "cls", "said"),
    [(check, cls, said) for check, told in BROKEN.items() for cls, said in told.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_promise_is_found(check, cls, said, subject_of):
    (wanted,) = [known for known in CHECKS if known.name() == check]

    assert examined(wanted, subject_of(cls)).broken.startswith(said)


def test_what_an_authors_code_raises_is_said_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from bsrbench.harness.method import Method, Kind\n"
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


def test_what_the_other_promises_need_is_the_only_thing_said(broken_by):
    assert broken_by(ReturnsNothing) == {"keeps_the_parameters"}


def test_tokens_may_change_in_training_only_if_the_card_says_so(subject_of):
    (check,) = [known for known in CHECKS if known.name() == "passes_on_the_tokens_it_declares"]

    assert not examined(check, subject_of(SaysThatItDropsInTrainingAlone)).broken
