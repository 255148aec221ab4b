"""Promises every method keeps. A new file in methods/ is tested here unasked."""

import itertools

import pytest

from bsrbench import methods
from bsrbench.harness.composition import CHANGES_TOKENS
from bsrbench.harness.conformance.checks import CHECKS
from bsrbench.harness.conformance.subject import Subject

ALONE = methods.names()
NAMED_PAIRS = [
    "bsr+int8",
    "bsr+int4",
    "bsr+int2",
    "bsr+regelu2",
    "bsr+offload",
    "bsr+checkpoint",
    "bsr+sparse",
    "bsr+lora",
    "lora+int8",
    "lora+checkpoint",
    "lora+regelu2",
    "evit+int8",
    "evit+lora",
    "bias+int8",
    "tome+lora",
    "tome+int8",
    "adapter+int8",
    "prompt+int8",
    "ladder+int8",
    "ladder+checkpoint",
    "repnet+int8",
    "bias+regelu2",
    "head+int8w",
    "bias+int8w",
    "bsr+int8w",
    "bsr+nf4",
    "lora+nf4",
    "dora+nf4",
    "adapter+int8w",
    "prompt+int8w",
    "ladder+int8w",
    "bsr+int8w+int8",
    "bsr+checkpoint+int8w",
    "badam+checkpoint",
    "badam+int8",
    "lisa+int8",
    "tome+badam",
    "bsr+mezo",
    "lora+mezo",
    "head+mezo",
    "badam+mezo",
    "bsr+int8w+mezo",
    "regelu2+mslnorm",
    "bsr+mslnorm",
    "lora+mslnorm",
    "lora+nf4+mslnorm",
    "dtl+int8",
    "dtl+checkpoint",
    "vqt+int8",
    "vqt+checkpoint",
    "sparse_tuning+int8",
    "sparse_tuning+checkpoint",
    "dyt+int8",
    "dyt+checkpoint",
    "dyt+regelu2",
    "dyt+int8w",
    "bsr+asi",
    "lora+asi",
    "regelu2+asi",
    "bsr+wasi",
]
# Nothing could tell.
CHANGES_NOTHING = {
    ("says_that_a_model_is_prepared_already", "full"),
    ("says_that_a_model_is_prepared_already", "mezo"),
}


def one_pair_of_each_two_kinds():
    """Return a composition for every two different kinds, made of the first methods found."""
    first = {}
    for name in methods.alone():
        first.setdefault(methods.find(name).kinds, name)
    pairs = itertools.combinations(first.items(), 2)
    return [f"{a}+{b}" for (kinds_a, a), (kinds_b, b) in pairs if compose(kinds_a, kinds_b)]


def compose(first, second):
    """Tell whether methods of these kinds can follow each other: nothing adds and drops tokens."""
    return not first & second and not (first & CHANGES_TOKENS and second & CHANGES_TOKENS)


COMPOSED = sorted({*NAMED_PAIRS, *one_pair_of_each_two_kinds()})
HELD = [
    pytest.param(check, name, id=f"{check.name()}-{name}")
    for check in CHECKS
    for name in [*ALONE, *(COMPOSED if check.composed else [])]
    if (check.name(), name) not in CHANGES_NOTHING
]


@pytest.mark.parametrize(("check", "name"), HELD)
def test_keeps_its_promise(check, name):
    check.examine(Subject(name, methods.find, methods.load))


@pytest.mark.parametrize("name", ALONE)
def test_is_applied_once(name):
    """Naming a method twice in a composition is an error before anything runs."""
    with pytest.raises(ValueError, match="twice"):
        methods.load(f"{name}+{name}")
