"""Axes change the trial and its label, not the question."""

import pytest

from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AXES

ALL_AXES = {
    "micro_batch": 4,
    "precision": "bf16",
    "compiled_step": True,
    "optimizer_in_backward": True,
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
        "bsr (micro-batch 4, bf16, compiled, optimizer in backward)",
        "bsr",
        "bsr (whole batch, fp32, not compiled, optimizer after backward)",
    ]
