"""Axes change the trial and its label, not the question."""

import pytest

from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AXES, axis_of_words, keys_of_axes

ALL_AXES = {
    "micro_batch": 4,
    "precision": "bf16",
    "compiled_step": True,
    "optimizer_in_backward": True,
    "optimizer": "adamw8",
}


@pytest.mark.parametrize("axis", ALL_AXES)
def test_an_axis_does_not_change_the_question_but_the_trial(axis):
    plain = Workload(model="test_vit", batch=4)
    changed = Workload(model="test_vit", batch=4, **{axis: ALL_AXES[axis]})
    trials = [TrialSpec(method="full", workload=w, profile=Profile()) for w in (plain, changed)]

    assert set(AXES) == set(ALL_AXES)
    assert plain.question() == changed.question()
    assert plain.question() != plain.model_copy(update={"batch": 8}).question()
    assert trials[0].trial_id() != trials[1].trial_id()


def test_a_label_shows_the_axes_that_do_not_go_without_saying():
    plain = Workload(model="test_vit", batch=4)
    other = Workload(model="test_vit", batch=4, **ALL_AXES)
    labels = [
        TrialSpec(method="bsr", workload=own, profile=Profile()).label(beside)
        for own, beside in ((plain, None), (other, None), (other, other), (plain, other))
    ]

    assert labels == [
        "bsr",
        "bsr (micro-batch 4, bf16, compiled, optimizer in backward, adamw8)",
        "bsr",
        "bsr (whole batch, fp32, not compiled, optimizer after backward, sgd)",
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "sgd"),
        ({"momentum": 0.0}, "sgd momentum=0"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"optimizer": "adamw", "momentum": 0.5}, "adamw"),
        (
            {"optimizer": "galore", "optimizer_options": {"scale": 1.0, "rank": 10_000_000}},
            "galore rank=10000000 scale=1",
        ),
        ({"optimizer": "adamw8", "optimizer_options": {"eps": 1e-9}}, "adamw8 eps=1e-09"),
    ],
)
def test_an_optimizer_and_its_options_are_one_axis_in_words(keys, words):
    """AdamW has no momentum, so a stated one makes no difference."""
    plain = Workload(model="test_vit", batch=4)
    workload = Workload(model="test_vit", batch=4, **keys)
    again = Workload(model="test_vit", batch=4, **keys_of_axes(workload.axis_values()))

    assert workload.axis_values()["optimizer"] == words
    assert axis_of_words(words) == ("optimizer", words)
    assert again.axis_values() == workload.axis_values()
    assert workload.question() == plain.question()


@pytest.mark.parametrize(
    "words", ["galore bits=1", "adamw momentum=0", "galore rank", "galore rank=x", "sgd  ", ""]
)
def test_other_words_are_no_optimizer(words):
    assert axis_of_words(words) is None


def test_options_in_another_order_are_the_same_row():
    assert axis_of_words("galore scale=0.50 rank=8") == ("optimizer", "galore rank=8 scale=0.5")


def test_a_row_with_another_optimizer_leaves_the_options_of_the_workload():
    workload = Workload(
        model="test_vit", batch=4, optimizer="galore", optimizer_options={"rank": 8}
    )
    rows = [
        SuiteMethod(method="full"),
        SuiteMethod(method="full", optimizer="lion"),
        SuiteMethod(method="full", optimizer_options={"rank": 4}),
        SuiteMethod(method="full", optimizer="sgd", momentum=0.0),
    ]
    labels = [str(row.label(workload)) for row in rows]

    assert labels == ["full", "full (lion)", "full (galore rank=4)", "full (sgd momentum=0)"]
    assert [RowLabel.parse(label).name(workload.axis_values()) for label in labels] == [
        row.name(workload) for row in rows
    ]
