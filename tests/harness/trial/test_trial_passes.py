"""What a method says of its environment, from the end of a pass to the record."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.composition import Composed
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.method import Kind, Method
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from tests.trial_records import ran_in

FALLBACK = "no compiler was found: its kernels run as torch operators"


@dataclass(frozen=True)
class Saying(Method):
    """Full fine-tuning that says something."""

    facts: dict[str, Any] = field(default_factory=dict)
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return model

    def environment(self, device):
        return self.facts


def test_a_method_says_nothing_unless_it_has_something_to_say():
    assert {} == methods.load("full").environment("cpu")


def test_a_composition_says_what_its_parts_say():
    first = {"kernels": "torch", "fallback": "slow", "kernel_compile_seconds": 1.0}
    second = {"fallback": "slower", "kernel_compile_seconds": 2.0, "depends_on_data": "so"}

    assert {
        "kernels": "torch",
        "fallback": "slow; slower",
        "depends_on_data": "so",
        "kernel_compile_seconds": 3.0,
    } == Composed((Saying(first), Saying(second), Saying())).environment("cpu")


def test_a_pass_ends_with_what_the_method_says(make_spec):
    facts = {"kernels": ["a", "b"], "kernel_compile_seconds": 1.5}
    result = InlineLauncher(lambda _: Saying(facts)).perform("estimate", make_spec("saying"))

    assert facts == result.method


def test_what_no_record_can_hold_is_an_outcome(make_spec):
    launcher = InlineLauncher(lambda _: Saying({"kernels": object()}))
    result = launcher.perform("estimate", make_spec("saying"))

    assert result.status == Status.CRASHED
    assert "contains a value that JSON cannot represent (object)" in result.reason


@pytest.fixture
def record(make_spec):
    """Return a record of a pass that fell back, after one that said nothing of it."""
    said = [{"kernel_compile_seconds": 2.0}, {"kernel_compile_seconds": 0.1, "fallback": FALLBACK}]
    passes = {
        name: PassResult(reading=PassReadings({}), method=facts)
        for name, facts in zip(("clock", "memory"), said, strict=True)
    }
    return make_record("key", make_spec(), passes, ran_in())[0]


def test_a_fallback_is_a_note_and_the_rest_stands_in_the_environment(record):
    """Of what several passes say the first counts: the clock's."""
    assert record.environment.method == {"kernel_compile_seconds": 2.0, "fallback": FALLBACK}
    assert record.notes == (Note(NoteKind.METHOD, FALLBACK),)


@pytest.mark.parametrize("options", [{}, {"ranks": [2, 4, 8]}], ids=["explained", "ranks"])
def test_ranks_that_follow_from_noise_are_a_note(options, make_six_spec):
    """A method with set ranks needs the same in every training."""
    spec = make_six_spec("asi", options=options)
    results = {"memory": InlineLauncher(methods.load).perform("memory", spec)}
    notes = [note.text for note in make_record("key", spec, results, ran_in())[0].notes]

    assert ("that of a profile is noise" in "".join(notes)) == (not options)


class Deciding(Saying):
    """Full fine-tuning that lets products round, as a method may."""

    def prepare(self, model):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        return model


def test_a_record_says_which_settings_its_method_made(make_spec):
    """They are what the method is: the run's own settings, and the key, stay as they are."""
    try:
        result = InlineLauncher(lambda _: Deciding()).perform("estimate", make_spec("deciding"))
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"
    record, _ = make_record("key", make_spec(), {"estimate": result}, ran_in())

    assert record.environment.set_by_method == {
        "torch.backends.mkldnn.matmul.fp32_precision": "bf16"
    }


def test_a_method_that_makes_none_has_none_in_its_record(make_spec):
    result = InlineLauncher(lambda _: Saying()).perform("estimate", make_spec("saying"))
    record, _ = make_record("key", make_spec(), {"estimate": result}, ran_in())

    assert record.environment.set_by_method == {}
