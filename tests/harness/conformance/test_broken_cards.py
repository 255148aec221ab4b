"""What a method says of itself can be seen to be wrong or missing, and an author is told how."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from bsrbench.harness.conformance.checks import CHECKS, examine, examined
from bsrbench.harness.method import Method
from bsrbench.harness.model.vit import head
from bsrbench.methods.head import LinearProbe


class NoCard(LinearProbe):
    __doc__ = ""


class NoFacts(Method):
    """Stores x. Approximates nothing. Does not save y."""

    def prepare(self, model):
        return model


class KindsAsText(LinearProbe):
    kinds: ClassVar = {"selects weights"}


class NoDataclass(LinearProbe):
    """Stores x. Approximates nothing. Does not save y."""

    rank: int = 4


@dataclass(frozen=True)
class HiddenOption(LinearProbe):
    """Stores x. Approximates nothing. Does not save y."""

    secret: int = 3


class ShortCard(LinearProbe):
    """Does things."""


class UnknownPair(LinearProbe):
    """Stores x. Approximates nothing. Does not save y."""

    refines: ClassVar = frozenset({"bsr"})


class PreparesTwice(LinearProbe):
    def prepare(self, model):
        model.requires_grad_(False)
        head(model).requires_grad_(True)
        return model


@dataclass(frozen=True)
class LosesOptions(LinearProbe):
    """Stores x. Approximates nothing. Does not save y.

    Attributes:
        pairs: changed by JSON.
    """

    pairs: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.pairs.append(1)


# Each promise, what breaks it, and how that is said: whatever else was broken would not count.
BROKEN = {
    "declares_what_a_method_must": {
        NoFacts: "the class does not declare 'source'",
        KindsAsText: "kinds = {'selects weights'}; expected a frozenset",
        NoDataclass: "not an option of the method: rank;",
    },
    "describes_itself": {
        NoCard: "the class has no docstring of its own",
        LosesOptions: "the default options change when they are written to JSON and read "
        "again: {'pairs': [1, 1]}",
    },
    "documents_every_option": {HiddenOption: "'Attributes:' in the docstring lacks secret"},
    "card_says_the_three_things": {ShortCard: "the docstring does not say what it stores"},
    "pairs_are_on_the_card": {UnknownPair: "'refines' names 'bsr', but the docstring does not"},
    "says_that_a_model_is_prepared_already": {
        PreparesTwice: "a second prepare() on the same model"
    },
}


def test_every_check_of_a_card_is_seen_to_fail():
    of_cards = {c.name() for c in CHECKS if c.examine.__module__.endswith(".method_card")}

    assert set(BROKEN) == of_cards


@pytest.mark.parametrize(
    ("check", "cls", "said"),
    [(check, cls, said) for check, told in BROKEN.items() for cls, said in told.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_card_is_found(check, cls, said, subject_of):
    (wanted,) = [known for known in CHECKS if known.name() == check]

    assert examined(wanted, subject_of(cls)).broken.startswith(said)


def test_what_the_other_promises_need_is_the_only_thing_said(subject_of):
    broken = {found.check.name() for found in examine(subject_of(NoFacts)) if found.broken}

    assert broken == {"declares_what_a_method_must"}
