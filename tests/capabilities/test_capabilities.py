"""The page of capabilities is made of its tables, and the tables say what a probe finds now."""

from importlib.metadata import version

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.conformance.subject import Subject, tiny_model
from bsrbench.methods.parts.peft_tuners import tuner_classes
from tests.capabilities import tables
from tests.capabilities.probes import YES, pair, probe
from tests.methods.tuner_settings import options_of

METHODS = {row["name"]: row for row in tables.read(tables.METHODS)}
TUNERS = {row["name"]: row for row in tables.read(tables.TUNERS)}
REFUSED = {row["name"] for row in tables.read(tables.REFUSED)}
PAIRS = {(row["first"], row["second"]): row["outcome"] for row in tables.read(tables.PAIRS)}
PROBED_AGAIN = ["head", "int8", "head+int8w"]
TUNERS_AGAIN = ["vera", "ia3"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_page_is_made_of_its_tables():
    parameters = sum(p.numel() for p in tiny_model().parameters())

    assert (tables.FOLDER / tables.PAGE).read_text(encoding="utf-8") == tables.page(parameters)


def test_the_tables_have_every_method_and_every_pair():
    names = set(methods.names())

    assert set(METHODS) == {methods.usable(name) for name in names - {"peft"}}
    assert set(PAIRS) == {(a, b) for a in methods.alone() for b in names - {a}}


def test_the_tables_have_every_tuner_of_the_peft_that_is_tested():
    if version("peft") != tables.PEFT:
        pytest.skip(f"the tables are of peft {tables.PEFT}, here is {version('peft')}")

    assert set(TUNERS) | REFUSED == set(tuner_classes())
    assert not set(TUNERS) & REFUSED


@pytest.mark.parametrize("name", PROBED_AGAIN)
def test_a_method_is_what_its_row_says(name):
    assert tables.as_row(probe(name, Subject(name, methods.find, methods.load))) == METHODS[name]


@pytest.mark.parametrize("tuner", TUNERS_AGAIN)
def test_a_tuner_is_what_its_row_says(tuner):
    subject = Subject("peft", methods.find, methods.load, options_of(tuner))

    assert tables.as_row(probe(tuner, subject)) == TUNERS[tuner]


@pytest.mark.parametrize("two", [("bsr", "int8"), ("bsr", "lora"), ("lora", "nf4")])
def test_a_pair_that_trains_is_in_the_table(two):
    assert pair(*two) == PAIRS[two] == YES


@pytest.mark.parametrize("two", [("lora", "dora"), ("full", "nf4"), ("prompt", "bsr")])
def test_a_pair_that_cannot_be_says_why(two):
    found = pair(*two)

    assert found == PAIRS[two]
    assert len(found.split()) > 3
