"""Suites become specs, and what cannot be used is said in one line."""

import pytest
from pydantic import ValidationError

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.recipe import LearningRateTry
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload

CLIPPED = """learning_rate = 0.1
clip_norm = 1.0
[[methods]]
method = "lora"
optimizer_in_backward = true"""
SMALL = """
seeds = [0, 1]
[workload]
model = "test_vit"
data = "noise"
classes = 5
batch = 4
[training]
steps = 2
learning_rate = 0.1
[profile]
rounds = 1
[[methods]]
method = "full"
learning_rate = 0.2
[[methods]]
method = "bsr"
micro_batch = 2
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_a_suite_profiles_each_row_once_and_trains_it_with_each_seed(small):
    trials = suite_file.read(small).trials()
    found = [(t.label(), t.seed, bool(t.profile), bool(t.training)) for t in trials]
    full, bsr = "full", "bsr (micro-batch 2)"

    assert found == [
        (full, 0, True, False),
        (bsr, 0, True, False),
        (full, 0, False, True),
        (bsr, 0, False, True),
        (full, 1, False, True),
        (bsr, 1, False, True),
    ]


def test_a_row_without_a_learning_rate_takes_the_suites(small):
    rates = [t.training.learning_rate for t in suite_file.read(small).trials() if t.training]

    assert rates == [0.2, 0.1, 0.2, 0.1]


def test_settings_override_the_file(small):
    read = suite_file.read(small, {"training.steps": 7, "workload.batch": 2})

    assert (read.training.steps, read.workload.batch) == (7, 2)


def test_a_trial_id_depends_on_every_part_of_the_spec(small):
    trials = suite_file.read(small).trials()
    again = [TrialSpec.model_validate_json(t.model_dump_json()) for t in trials]

    assert len({t.trial_id() for t in trials}) == len(trials)
    assert [t.trial_id() for t in again] == [t.trial_id() for t in trials]


def test_seeds_and_measured_parts_share_a_row(small):
    trials = suite_file.read(small).trials()

    assert len({t.row_id() for t in trials}) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("batch = 4", "batsh = 4", "did you mean 'batch'"),
        ("batch = 4", "batch = 0", "workload.batch = 0: should be greater than or equal to 1"),
        ("batch = 4", 'batch = "four"', "workload.batch = 'four'"),
        ("batch = 4", "", "workload.batch is missing"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
        ("rounds = 1", "rounds = -1", "profile.rounds = -1"),
        ("micro_batch = 2", "micro_batch = 5", "micro_batch 5 is larger than batch 4"),
        ("learning_rate = 0.2", "learning_rate = 0.2\nto_try = [1.0]", "same number of to_try"),
        (
            "micro_batch = 2",
            "micro_batch = 2\noptimizer_in_backward = true",
            "but micro_batch 2 splits batch 4 into several: leave out one",
        ),
        (
            "micro_batch = 2",
            'precision = "fp16"\noptimizer_in_backward = true',
            "precision fp16 skips the whole optimizer step if any gradient is not finite, but",
        ),
        ("batch = 4", 'batch = 4\nprecision = "fp8"', "workload.precision = 'fp8'"),
        (
            "learning_rate = 0.1",
            CLIPPED,
            "clip_norm 1 needs the norm of all gradients before any update",
        ),
        ("[workload]", "[workload", "not valid TOML"),
    ],
)
def test_says_what_is_wrong_with_a_suite(small, old, new, said):
    small.write_text(SMALL.replace(old, new, 1))

    with pytest.raises(BadInput) as caught:
        suite_file.read(small)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trial_must_do_something():
    with pytest.raises(ValidationError, match="training part, a profile part, or both"):
        TrialSpec(method="full", workload=Workload(model="test_vit", batch=1))


def test_tuning_writes_the_best_try_and_keeps_comments(small):
    small.write_text("# mine\n" + SMALL)
    tries = [
        LearningRateTry(learning_rate=rate, validation_accuracy=accuracy)
        for rate, accuracy in ((0.1, 0.5), (0.2, 0.7), (0.4, 0.7))
    ]
    other = [LearningRateTry(learning_rate=0.3)] * 3
    suite_file.write_choices(small, suite_file.read(small), [[tries, other]])
    read = suite_file.read(small)

    assert suite_file.best_try(tries) == 0.2  # of equals, the smallest
    assert small.read_text().startswith("# mine")
    assert (read.methods[0].learning_rate, read.methods[0].tries) == (0.2, tuple(tries))


def test_a_suite_that_varies_asks_every_combination(small):
    """Two batches x two methods, each profiled once and trained with two seeds."""
    small.write_text(SMALL + "[vary]\nbatch = [4, 8]\n")
    trials = suite_file.read(small).trials()

    assert {trial.workload.batch for trial in trials} == {4, 8}
    assert len({trial.workload.question() for trial in trials}) == 2
    assert len({trial.trial_id() for trial in trials}) == len(trials)


def test_what_varies_must_be_a_key_of_the_workload(small):
    small.write_text(SMALL + "[vary]\nbatsh = [4, 8]\n")

    with pytest.raises(BadInput, match="did you mean 'batch'"):
        suite_file.read(small)


def test_a_row_of_a_suite_may_have_axes_of_its_own(small):
    """Overrides go both ways: the workload's bf16 becomes fp32 again."""
    rows = 'method = "full"\nprecision = "fp32"\ncompiled_step = true'
    small.write_text(
        SMALL.replace("batch = 4", 'batch = 4\nprecision = "bf16"').replace(
            'method = "full"', f"{rows}\noptimizer_in_backward = true"
        )
    )
    full, bsr = (trial.workload for trial in suite_file.read(small).trials() if trial.profile)

    assert (full.precision, full.compiled_step, full.optimizer_in_backward) == ("fp32", True, True)
    assert (bsr.precision, bsr.compiled_step, bsr.micro_batch) == ("bf16", False, 2)
    assert full.question() == bsr.question()


def test_a_trial_that_a_row_and_what_varies_both_ask_for_is_one(small):
    """Two precisions for bsr; the first row's is its own, whatever varies."""
    text = SMALL.replace('method = "full"', 'method = "full"\nprecision = "bf16"')
    small.write_text(text + '[vary]\nprecision = ["fp32", "bf16"]\n')
    profiled = [trial.label() for trial in suite_file.read(small).trials() if trial.profile]

    assert sorted(profiled) == [
        "bsr (micro-batch 2)",
        "bsr (micro-batch 2, bf16)",
        "full (bf16)",
    ]


def with_questions(small):
    text = small.read_text().replace(
        "[[methods]]",
        """[[questions]]
workload = { data = "noise", classes = 4 }
training = { steps = 7 }

[[questions]]
workload = { data = "digits" }
training = { learning_rate = 0.5 }
to_try = [0.1, 0.2]

[[methods]]""",
        1,
    )
    small.write_text(text)
    return suite_file.read(small)


def test_each_question_has_its_workload_and_its_recipe(small):
    trained = [spec for spec in with_questions(small).trials() if spec.training]
    asked = {(spec.workload.data, spec.training.steps) for spec in trained}
    plain = suite_file.read(small).training.steps

    assert asked == {("noise", 7), ("digits", plain)}
    assert len(trained) == 2 * len({spec.method for spec in trained}) * len(
        {spec.seed for spec in trained}
    )


def test_a_questions_choices_are_its_own(small):
    """What tune writes for one question is read for that one alone."""
    found = with_questions(small)
    tries = [
        [
            [
                LearningRateTry(learning_rate=rate, validation_accuracy=accuracy)
                for rate, accuracy in ((0.1 + index, 0.3), (0.2 + index, 0.6))
            ]
            for _ in found.methods
        ]
        for index, _ in enumerate(found.questions)
    ]
    suite_file.write_choices(small, found, tries)
    chosen = {
        (spec.workload.data, spec.training.learning_rate)
        for spec in suite_file.read(small).trials()
        if spec.training
    }

    assert chosen == {("noise", 0.2), ("digits", 1.2)}
    assert all(
        len(spec.training.tries) == 2 for spec in suite_file.read(small).trials() if spec.training
    )


def test_a_choice_is_found_by_any_label_of_its_row(small):
    """Written is the label that reports print; read is any that names the same row."""
    options = "options = { b = [1], a = 'x [y]' }\nmicro_batch = 2"
    small.write_text(small.read_text().replace("micro_batch = 2", options))
    found = with_questions(small)
    tries = [LearningRateTry(learning_rate=0.7), LearningRateTry(learning_rate=0.9)]
    suite_file.write_choices(small, found, [[tries, tries], [tries, tries]])
    text = small.read_text()
    printed = r"""bsr (b=[1], a=\"x [y]\", micro-batch 2)"""
    other = r"""bsr (micro-batch 2, fp32, a=\"x [y]\",b=[1])"""
    small.write_text(text.replace(printed, other))
    read = suite_file.read(small)
    suite_file.write_choices(small, read, [[tries, tries], [tries, tries]])

    assert text.count(printed) == 2
    assert {s.training.learning_rate for s in read.trials() if s.training} == {0.7}
    assert small.read_text().count(other) == 2  # not once more by its usual label
    assert printed not in small.read_text()


def test_a_question_may_say_what_to_try(small):
    found = with_questions(small)
    trials = found.tuning_trials(found.questions[1], found.methods[0], 5)

    assert [spec.training.learning_rate for spec in trials] == [0.1, 0.2]
    assert {(s.training.evaluate, s.seed, s.workload.data) for s in trials} == {
        ("validation", 5, "digits")
    }


def test_a_choice_for_no_row_is_refused(small):
    with_questions(small)
    small.write_text(
        small.read_text().replace(
            "to_try = [0.1, 0.2]", "to_try = [0.1, 0.2]\nchosen.nothing.learning_rate = 0.1"
        )
    )

    with pytest.raises(BadInput, match="chosen names nothing, but there is no such row"):
        suite_file.read(small)
