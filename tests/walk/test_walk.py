"""One model of each structure of blocks keeps what the table says, and the walk sees what does not.

The table of all models is made by ``tox -e models``.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import pytest
import timm
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import final_norm, head
from bsrbench.harness.workload import models
from bsrbench.methods.parts.trained_parameters import train_only
from tests.walk import cells, counts, listing, reasons, rules, table
from tests.walk.subjects import subject_of

DEIT = "deit_tiny_patch16_224"
FEW = ("bias", "bsr", "ladder")
OF_MODELS_WITH_STEM = {n for module in models.WITH_STEM for n in timm.list_models(module=module)}
ROWS = table.read()


def smallest_of_each_structure():
    """Return the rows of the smallest model of every class and structure of blocks."""
    smallest = {}
    for row in sorted(ROWS, key=lambda row: row.parameters):
        smallest.setdefault((row.cls, row.structure), row)
    return sorted(smallest.values(), key=lambda row: row.model)


SMALLEST = smallest_of_each_structure()


@cache
def deit():
    """Return a model of which is known, before anything is broken, what full fine-tuning does."""
    subject = subject_of(DEIT)
    assert subject.usual.traced_macs > 0
    return subject


@pytest.mark.parametrize(
    ("place", "row"), list(enumerate(SMALLEST)), ids=[r.model for r in SMALLEST]
)
def test_what_the_table_says_holds(place, row):
    """Of every structure a few methods, and of plain ones by turns a third of the others.

    All of them on each model would take ``tox -e models`` once more. The few are enough for models
    of other classes, whose blocks no method knows, and for convolutions below blocks that stand
    without them, too.
    """
    subject = subject_of(row.model)
    known = listing.is_plain(subject.untouched) and row.model not in OF_MODELS_WITH_STEM
    by_turns = sorted(row.outcomes)[SMALLEST.index(row) % 3 :: 3]
    checked = {*FEW, *(by_turns if known else ())}
    expected = {name: row.outcomes[name] for name in checked}

    assert row.structure == listing.structure(subject.untouched)
    assert expected == {name: cells.outcome(subject, name) for name in checked}


def test_the_table_has_every_method():
    assert all(listing.WALKED == sorted(row.outcomes) for row in ROWS)


def test_the_table_and_the_program_list_the_same_vision_transformers():
    """The walk tells them by their class, the program by the modules of timm."""
    assert models.names() == [row.model for row in ROWS if row.tokens]


def test_every_reason_of_the_table_has_a_meaning():
    keys = {what for row in ROWS for what in row.outcomes.values()}

    assert keys <= {cells.EQUAL, cells.UNCOUNTED} | {reason.key for reason in reasons.REASONS}


def test_multiply_adds_are_those_of_the_closed_form():
    """DeiT-Ti at 64 px: C = 192, 17 tokens, 3 blocks, 10 classes.

    Patches 16 x 3 x 16^2 x C; a block 12 C^2 a token and 2 x 17^2 x C for attention; the head 10 C.
    """
    model = listing.outline(DEIT, img_size=64, depth=3)
    expected = 16 * 768 * 192 + 3 * (17 * 12 * 192**2 + 2 * 17**2 * 192) + 10 * 192
    with cells.fake_numbers(model):
        counted = counts.multiply_adds(model, torch.empty(1, 3, 64, 64))

    assert expected == counted


@dataclass(frozen=True)
class Broken(Method):
    """A linear probe with a fault."""

    fault: str = ""

    source = "baseline"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Break what is to be broken."""
        if self.fault.startswith("says "):
            raise Unsupported(self.fault.removeprefix("says "))
        train_only(model, [head(model)])
        if self.fault == "trains the norm too":
            final_norm(model).requires_grad_(True)
        if self.fault == "leaves out the bias":
            model.head.bias.requires_grad_(False)
        if self.fault == "drops a token":
            model.blocks[1].register_forward_hook(lambda _, __, out: out[:, :-1])
        if self.fault == "drops a token in evaluation":
            model.blocks[0].register_forward_hook(
                lambda own, _, out: out if own.training else out[:, :-1]
            )
            model.blocks[0].__class__ = type("Dropping", (type(model.blocks[0]),), {})
        return model

    def tokens(self, entering: int, depth: int = 12) -> tuple[int, ...]:
        """Declare tokens."""
        return (entering - (self.fault == "declares one less"),) * depth


FAULTS = {
    "trains the norm too": "trained parameters: 2314, and 1930 were",
    "leaves out the bias": "trained parameters: 1920, and 1930 were",
    "declares one less": "tokens declared",
    "drops a token": "tokens passed on",
    "drops a token in evaluation": "tokens of MLPs in evaluation",
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.items())
def test_a_method_that_does_otherwise_is_wrong(fault, said, monkeypatch):
    subject = deit()
    monkeypatch.setattr(methods, "load", lambda *_, **__: Broken(fault))

    with pytest.raises(cells.Wrong, match=said):
        cells.outcome(subject, "head")


def test_a_method_that_leaves_parameters_without_gradient_is_wrong(monkeypatch):
    """What is trained is not part of the logits."""

    def unused(*_, **__):
        class Unused(Broken):
            def prepare(self, model):
                super().prepare(model)
                own = model.head
                model.head.forward = lambda x: nn.functional.linear(x, own.weight)
                return model

        return Unused()

    subject = deit()
    monkeypatch.setattr(methods, "load", unused)

    with pytest.raises(cells.Wrong, match=r"without gradient: frozenset.*head\.bias"):
        cells.outcome(subject, "head")


def test_multiply_adds_that_two_counters_see_otherwise_are_wrong(monkeypatch):
    true = cells.forward_macs
    subject = subject_of("test_vit")

    class More:
        def __init__(self, model, image):
            self.total = true(model, image).total + 1

    monkeypatch.setattr(cells, "forward_macs", More)

    with pytest.raises(cells.Wrong, match="multiply-adds"):
        cells.outcome(subject, "full")


@pytest.mark.parametrize(
    "said",
    [
        "the model has no class token, whose attention ranks the other tokens",
        "the model has 5 leading tokens (registers)",
        "the head reads 'avg', not the class token",
        "this method does not support the activation GELU",
        "the activation GELU is not GELU",
        "GELU with the approximation 'tanh' is not supported",
        "the MLP of block 0 is a GluMlp, not timm's plain Mlp",
        "block 0 is a ParallelScalingBlock, which is not supported",
        "VisionTransformer is not one of timm's VisionTransformer models",
        "width 192 / reduction 8 is not divisible by 3 heads",
    ],
)
def test_a_reason_that_is_not_true_is_wrong(said, monkeypatch):
    subject = deit()
    monkeypatch.setattr(methods, "load", lambda *_, **__: Broken(f"says {said}"))

    with pytest.raises(ValueError, match="not true of this model"):
        cells.outcome(subject, "head")


def test_a_reason_that_nobody_has_written_down_is_wrong(monkeypatch):
    subject = deit()
    monkeypatch.setattr(methods, "load", lambda *_, **__: Broken("says it is Monday"))

    with pytest.raises(ValueError, match="an unknown reason: it is Monday"):
        cells.outcome(subject, "head")


def test_multiply_adds_that_a_method_does_not_save_are_wrong(monkeypatch):
    """A method that changes nothing of the forward pass, held against one that would save some."""
    subject = deit()
    monkeypatch.setattr(rules, "more_macs", lambda *_: -1)
    usual = subject.usual.counted_macs

    with pytest.raises(cells.Wrong, match=f"evaluation: {usual}, and {usual - 1} were"):
        cells.outcome(subject, "head")


def test_numbers_of_the_newest_methods_are_those_of_the_closed_form():
    """DeiT-Ti at 64 px: C = 192, 17 tokens, 3 blocks, 10 classes.

    A dispatcher has C + 1 parameters, a bottleneck 2 x 64 C + 64 + C; 1 + 8 of the 17 tokens pass
    an MLP of 8 C^2. Two factors of rank 8 replace weights of 3 C x C, C x C, 4 C x C and C x 4 C.
    """
    model = listing.outline(DEIT, img_size=64, depth=3)
    saved = 3 * (12 * 192**2 - 8 * (4 + 2 + 5 + 5) * 192)
    whole = sum(part.numel() for part in model.parameters())
    read = 17 * 192 * (2 * 64 + 1)

    assert rules.evaluated("dyt", model) == (9, 9, 9)
    assert rules.trained("dyt", model) == 1930 + 3 * (193 + 2 * 64 * 192 + 64 + 192)
    assert rules.trained("asi", model) == whole
    assert rules.trained("wasi", model) == whole - saved
    assert rules.more_macs("dyt", model) == 3 * (read - 8 * 8 * 192**2)
    assert rules.more_macs("asi", model) == 0
    assert rules.more_macs("wasi", model) == -17 * saved


def test_a_loss_of_two_terms_has_a_backward_pass_for_each(monkeypatch):
    """A linear probe whose first term reads the weight alone, and whose second reads the logits."""
    gradients = []

    class TwoTerms(Broken):
        def losses(self, model, forward, loss_of):
            yield model.head.weight.sum()
            gradients.append(model.head.weight.grad.clone())
            yield loss_of(forward())

    subject = deit()
    monkeypatch.setattr(methods, "load", lambda *_, **__: TwoTerms())

    assert cells.outcome(subject, "head") == cells.EQUAL
    assert all(torch.equal(own, torch.ones(10, 192)) for own in gradients)
    assert len(gradients) == 1


def test_blocks_are_named_where_there_are_not_twelve():
    assert rules.blocks_of(12).options("bsr", 12) == {}
    assert rules.blocks_of(24).options("bsr", 24) == {
        "trained_blocks": (8, 16, 23),
        "drop_at": (6, 12, 18),
    }
