"""Settings that contradict each other are refused, with what to set instead."""

import pytest

from bsrbench.harness.cli.settings import nested, overrides
from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file

SUITE = """
seeds = [0]
[workload]
model = "test_vit"
data = "digits"
image_size = 32
batch = 8
[training]
steps = 20
warmup_steps = 4
learning_rate = 1e-3
"""
FULL = '[[methods]]\nmethod = "full"\n'
LORA = '[[methods]]\nmethod = "lora"\n'
RANK = "options = { rank = 4 }\n"
ONE, FOUR = "to_try = [1e-3]\n", "to_try = [1e-4, 1e-3, 1e-2, 1e-1]\n"
TRIED = "tries = [{ learning_rate = 1e-3 }, { learning_rate = 1e-2 }]\n"
CHOICE = "learning_rate = 1e-3\n" + TRIED


def read(folder, *parts, **changes):
    path = folder / "mine.toml"
    path.write_text(SUITE + "".join(parts))
    return suite_file.read(path, {key.replace("__", "."): value for key, value in changes.items()})


# ---- tries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            FULL + FOUR + LORA + ONE + LORA + RANK + FOUR,
            "same number of to_try, got full 4, lora 1, lora (rank=4) 4",
        ),
        (
            FULL + FOUR + LORA + LORA + RANK + FOUR,
            "same number of to_try, got full 4, lora 0, lora (rank=4) 4",
        ),
        (FULL + CHOICE + FULL + "micro_batch = 1\n", "number of tries, got full 2, full (micro"),
        (FULL + TRIED, "full has tries but no learning_rate that was chosen from them"),
        (FULL + "to_try = [1e-3, 1e-2, 1e-3]\n", "to_try of full names 0.001 more than once"),
        (
            FULL + "[[questions]]\nto_try = [1e-3, 1e-3]\n",
            "to_try of a question names 0.001 more than once",
        ),
        (
            FULL + LORA + "[[questions]]\n[questions.chosen.full]\n" + CHOICE,
            "same number of tries, got full 2, lora 0",
        ),
    ],
)
def test_rows_with_unequal_tries_are_refused(rows, said, tmp_path):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, rows)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [
        FULL + FOUR + LORA + FOUR + LORA + RANK + FOUR,
        FULL + CHOICE + LORA + CHOICE,
        FULL
        + LORA
        + "[[questions]]\n"
        + "".join(f"[questions.chosen.{row}]\n{CHOICE}" for row in ("full", "lora")),
    ],
)
def test_rows_with_equal_tries_are_read(rows, tmp_path):
    assert read(tmp_path, rows).methods


def test_a_rate_to_try_below_the_final_one_is_refused(tmp_path):
    found = read(tmp_path, FULL + FOUR, training__final_learning_rate=5e-4)

    with pytest.raises(BadInput, match=r"to_try of full lists 0\.0001, below training\.final_"):
        found.tuning_trials(found.questions[0], found.methods[0], 0)


# ---- steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"training__steps": 2},
            (
                "training.warmup_steps = 4 is more than training.steps = 2, so the learning rate "
                "would never reach its peak: set warmup_steps to 2 or less, or steps to 4 or more"
            ),
        ),
        (
            {"training__evaluate_every": 21},
            (
                "training.evaluate_every = 21 is more than training.steps = 20, so the validation "
                "split would never be read: set evaluate_every to 20 or less, or steps to 21 or "
                "more"
            ),
        ),
        ({"workload__micro_batch": 9}, "micro_batch 9 is larger than batch 8"),
        ({"training__final_learning_rate": 1.0}, "final_learning_rate 1 is above learning_rate"),
    ],
)
def test_what_would_never_come_about_is_refused(changes, said, tmp_path):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, FULL, **changes)

    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))
    assert said in str(caught.value)


def test_a_question_s_own_recipe_is_looked_at(tmp_path):
    with pytest.raises(BadInput, match=r"warmup_steps = 4 is more than training\.steps = 3"):
        read(tmp_path, FULL, "[[questions]]\n[[questions]]\ntraining = { steps = 3 }\n")


def test_what_comes_about_at_the_last_step_is_read(tmp_path):
    found = read(tmp_path, FULL, training__steps=4, training__evaluate_every=4)

    assert found.training.steps == found.training.warmup_steps == 4


# ---- what is set beside the file ------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "key", "said"),
    [
        (
            "[vary]\nbatch = [1, 8]\n",
            "workload__batch",
            r"sets the values of batch: set vary\.batch",
        ),
        (
            "[[questions]]\n[[questions]]\ntraining = { steps = 30 }\n",
            "training__steps",
            r"training\.steps was set .* number 2 of 2 sets steps itself",
        ),
        (
            "[[questions]]\nworkload = { batch = 2 }\n",
            "workload__batch",
            r"number 1 of 1 sets batch itself: change it in a copy of the file",
        ),
    ],
)
def test_a_setting_that_the_file_replaces_is_refused(more, key, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        read(tmp_path, FULL, more, **{key: 8})


def test_a_setting_that_nothing_replaces_is_taken(tmp_path):
    questions = "[[questions]]\ntraining = { steps = 30 }\n"
    found = read(tmp_path, FULL, questions, workload__batch=2, training__label_smoothing=0.1)

    assert {trial.workload.batch for trial in found.trials()} == {2}


def test_a_question_that_says_the_same_is_no_contradiction(tmp_path):
    assert read(tmp_path, FULL, "[[questions]]\nworkload = { batch = 2 }\n", workload__batch=2)


def test_a_search_s_settings_replace_those_of_the_first_question(tmp_path):
    (tmp_path / "mine.toml").write_text(
        SUITE
        + FULL
        + '[[questions]]\nworkload = { data = "noise", batch = 4 }\n'
        + "training = { steps = 30, label_smoothing = 0.1 }\n"
        + "[[questions]]\nworkload = { batch = 16 }\n"
    )
    settings = {"workload.batch": 2, "training.steps": 10}
    found = suite_file.read(tmp_path / "mine.toml", settings, first_question=True)
    (trial,) = found.trials()

    assert (trial.workload.data, trial.workload.batch) == ("noise", 2)
    assert (trial.training.steps, trial.training.label_smoothing) == (10, 0.1)


def test_a_key_is_set_once():
    said = {"--seeds": ("seeds", [0]), "--batch": ("workload.batch", None)}

    assert overrides(["training.steps=2"], said) == {"seeds": [0], "training.steps": 2}
    with pytest.raises(
        BadInput, match=r"training\.steps is set twice, by --set training\.steps and"
    ):
        overrides(["training.steps=2", "training.steps=3"], {})
    with pytest.raises(BadInput, match="seeds is set twice, by --seeds and by --set seeds"):
        overrides(["seeds=[1]"], said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("rank=4", "rank=8"), "--option rank is set twice"),
        (("int8.bits=4", "int8.bits=8"), r"--option int8\.bits is set twice"),
        (("int8=4", "int8.bits=8"), r"int8 is already set to 4, which is not a table"),
        (("int8.bits=8", "int8=4"), "--option int8 is set twice"),
    ],
)
def test_an_option_is_set_once(options, said):
    with pytest.raises(BadInput, match=said):
        nested(options)
