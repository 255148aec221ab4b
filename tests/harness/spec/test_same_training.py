"""Rows with ``trains_as``: they are profiled, not trained, and only where that is possible."""

import pytest

from bsrbench.harness.cli.availability import load_methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.recipe import LearningRateTry

SUITE = """seeds = [0, 1]
[workload]
model = "test_vit"
batch = 4
[training]
steps = 2
learning_rate = 0.1
[profile]
[[methods]]
method = "full"
to_try = [0.1, 0.2]
[[methods]]
method = "{method}"
{axis}
trains_as = "{same}"
{more}
"""
QUESTIONS = '[[questions]]\nrows = ["full"]\n[[questions]]\nrows = ["checkpoint"]\n[[methods]]'


def suite_with(tmp_path, method="checkpoint", axis="", same="full", more="", cut=("", "")):
    path = tmp_path / "any.toml"
    text = SUITE.format(method=method, axis=axis, same=same, more=more)
    path.write_text(text.replace(*cut, 1) if cut[0] else text)
    return path, suite_file.read(path)


def test_a_row_with_the_training_of_another_is_only_profiled(tmp_path):
    _, suite = suite_with(tmp_path)
    trials = suite.trials()

    assert [(s.method, s.seed) for s in trials if s.training] == [("full", 0), ("full", 1)]
    assert [(s.method, s.profile.trains_as) for s in trials if s.profile] == [
        ("full", None),
        ("checkpoint", "full"),
    ]


def test_tries_are_written_only_into_rows_that_are_trained(tmp_path):
    path, suite = suite_with(tmp_path)
    tried = [LearningRateTry(learning_rate=0.1 * n, validation_accuracy=0.1 * n) for n in (1, 2)]
    suite_file.write_choices(path, suite, [[tried]])
    full, checkpoint = suite_file.read(path).methods

    assert (full.learning_rate, len(full.tries)) == (0.2, 2)
    assert (checkpoint.learning_rate, checkpoint.tries) == (None, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"same": "bsr"}, "trains_as names bsr, but there is no such row"),
        ({"same": "checkpoint"}, "checkpoint, which is not trained itself"),
        ({"more": "learning_rate = 0.1"}, "checkpoint has trains_as and learning_rate"),
        ({"more": "to_try = [0.1, 0.2]"}, "checkpoint has trains_as and to_try"),
        ({"axis": 'precision = "bf16"'}, "is trained with bf16, and full with fp32"),
        ({"cut": ("[profile]\n", "")}, r"only profiled: add \[profile\], or train the row"),
        ({"cut": ("[training]\nsteps = 2\nlearning_rate = 0.1\n", "")}, "trains_as has no effect"),
        ({"cut": ("[[methods]]", QUESTIONS)}, "question 2 has rows with trains_as = 'full'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_training_that_cannot_be_left_out_is_an_error(changes, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        suite_with(tmp_path, **changes)


@pytest.mark.parametrize("axis", ["micro_batch = 1", "optimizer_in_backward = true"])
def test_how_a_step_is_done_may_differ(axis, tmp_path):
    _, suite = suite_with(tmp_path, method="full", axis=axis)
    load_methods(suite.trials())

    assert sum(bool(spec.training) for spec in suite.trials()) == 2


@pytest.mark.parametrize("method", ["int8", "bsr", "head", "checkpoint+int8"])
def test_a_method_that_changes_the_training_cannot_share_it(method, tmp_path):
    """int8 rounds what it stores; bsr and head train fewer weights."""
    _, suite = suite_with(tmp_path, method=method)

    with pytest.raises(BadInput, match="changes logits, gradients or the trained weights"):
        load_methods(suite.trials())


def test_a_row_cannot_share_a_training_with_other_options(tmp_path):
    rank = '[[methods]]\nmethod = "lora"\nto_try = [0.1, 0.2]\n'
    _, suite = suite_with(
        tmp_path, "lora+checkpoint", "options = {lora = {rank = 4}}", "lora", more=rank
    )

    with pytest.raises(BadInput, match="lora is missing or has other options"):
        load_methods(suite.trials())
