"""A row is what was asked for: the same rule for rows of a suite and of results."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.row_choice import ListedRow, pick, unknown_row
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.suite_choice import choose

BESIDE = {
    "micro_batch": None,
    "precision": "fp32",
    "compiled_step": False,
    "optimizer_in_backward": False,
    "optimizer": "sgd",
}
LABELS = [
    "full",
    "full (micro-batch 1)",
    "lora (rank=4)",
    'bsr+int8 (bsr={"trained_blocks": [11], "drop_at": []})',
    'bsr+int8 (bsr={"trained_blocks": [3, 4], "drop_at": []})',
    'mine (name="full*")',
    "late [learning rate 0.1]",
    "late [learning rate 0.2]",
    'mine (name="full, too")',  # which the label of another row matches as a pattern
]


@pytest.fixture
def rows():
    """Return rows that are all on the same axes, but for those their labels state."""
    labels = list(map(RowLabel.parse, LABELS))
    return [ListedRow(one, one.name(BESIDE), BESIDE, dict(one.apart)) for one in labels]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        *((label, [place]) for place, label in enumerate(LABELS)),  # as it is printed
        ("full (fp32)", [0]),  # said, though it goes without saying
        ('bsr+int8 (bsr={"drop_at":[],"trained_blocks":[11]})', [3]),
        ("late", [6, 7]),
        ("full*", [0, 1]),
        ("*micro-batch*", [1]),
        ("*", list(range(9))),
        ('bsr+int8 (bsr={"trained…3, 4], "drop_at": []})', [4]),
        ("head", []),
        ("ful", []),
        ("full (micro-batch 2)", []),
        ("full (nonsense)", []),
        ("late [learning rate 0.3]", []),
        ("nothing*", []),
    ],
)
def test_a_name_means_the_rows_it_prints(rows, text, places):
    assert list(pick(text, rows).places) == places
    assert pick(text, rows).said == ""


def test_the_only_row_of_a_method_is_meant_and_said(rows):
    found = pick("lora", rows)

    assert found.places == (2,)
    assert found.said == "'lora' means 'lora (rank=4)', the only row of this method"


@pytest.mark.parametrize("text", ["bsr+int8", "bsr+int8…[]})"])
def test_a_name_for_several_rows_lists_them(rows, text):
    with pytest.raises(BadInput) as caught:
        pick(text, rows)

    assert f"{text!r} could mean '{LABELS[3]}', '{LABELS[4]}': give one" in str(caught.value)


def test_an_unknown_name_lists_those_that_are_near(rows):
    said = str(unknown_row("full (micro-batch 2)", rows, "among the results"))

    assert said.startswith(
        "no row 'full (micro-batch 2)' among the results; did you mean 'full (micro-batch 1)'"
    )
    assert all(f"'{label}'" in said for label in LABELS)


def test_a_method_whose_name_reads_like_a_label_is_found_as_it_is():
    label = RowLabel("f (x)")
    rows = [ListedRow(label, label.name(BESIDE), BESIDE, {})]

    assert pick("f (x)", rows).places == pick('"f (x)"', rows).places == (0,)


SUITE = """
seeds = [0, 1]
[workload]
model = "test_vit"
data = "noise"
classes = 5
batch = 4
precision = "bf16"
[training]
steps = 2
learning_rate = 0.1
[profile]
rounds = 0
[[methods]]
method = "full"
[[methods]]
method = "full"
micro_batch = 1
[[methods]]
method = "lora"
options = { rank = 4 }
learning_rate = 0.2
[[methods]]
method = "bsr"
options = { trained_blocks = [11, 3] }
[[methods]]
method = "bsr"
options = { trained_blocks = [2] }
precision = "fp32"
"""


@pytest.fixture
def small(tmp_path):
    def read(text=SUITE):
        (tmp_path / "small.toml").write_text(text)
        return suite_file.read(tmp_path / "small.toml")

    return read


def labels_of(chosen, whole):
    return list(dict.fromkeys(trial.label(whole.workload) for trial in chosen.trials))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["full"], ["full"]),
        (["full (bf16)"], ["full"]),
        (["full*"], ["full", "full (micro-batch 1)"]),
        (["full (micro-batch 1)", "full"], ["full (micro-batch 1)", "full"]),
        (["lora", "lora (rank=4)"], ["lora (rank=4)"]),
        (["bsr (trained_blocks=[11, 3])"], ["bsr (trained_blocks=[11, 3])"]),
        (["bsr (trained_blocks=[2], fp32)"], ["bsr (trained_blocks=[2], fp32)"]),
        (["head", "full"], ["head", "full"]),
    ],
)
def test_the_rows_of_a_suite_that_were_named_run_in_that_order(small, names, labels):
    whole = small()
    chosen = choose(whole, names)

    assert labels_of(chosen, whole) == labels
    assert len(chosen.trials) == 3 * len(labels)  # a profile, and a training for each seed
    assert {trial.trial_id() for trial in chosen.trials if trial.method != "head"} <= {
        trial.trial_id() for trial in whole.trials()
    }


def test_what_is_not_as_named_is_said(small):
    taken, made = choose(small(), ["full", "lora", "head"]).said

    assert taken == "'lora' means 'lora (rank=4)', the only row of this method"
    assert made == (
        "'head' has no row in the suite: it runs with its default options and learning rate "
        "0.1, which was not tuned for it"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bsr", r"'bsr' could mean 'bsr \(trained_blocks=\[11, 3\]\)', 'bsr \(tr.*\[2\], fp32\)'"),
        ("full (micro-batch 2)", r"no row .* in the suite; did you mean 'full \(micro-batch 1\)'"),
        ("full (fp32)", r"no row 'full \(fp32\)'"),
        ("head (x=1)", "no row"),
        ("head*", "no row"),
        ("", "no row ''"),
    ],
)
def test_a_name_that_is_no_row_of_the_suite_is_refused(small, name, said):
    with pytest.raises(BadInput, match=said):
        choose(small(), [name])


def test_a_row_that_goes_through_axes_is_asked_for_one_by_one(small):
    """Two precisions of one row are two rows of the report, and so they are here."""
    whole = small(SUITE + "[vary]\nmicro_batch = [2, 4]\n")

    assert labels_of(choose(whole, ["full (micro-batch 4)"]), whole) == ["full (micro-batch 4)"]
    assert labels_of(choose(whole, ["full*"]), whole) == [
        *("full (micro-batch 2)", "full (micro-batch 1)", "full (micro-batch 4)"),
    ]


def test_rows_of_one_name_are_told_apart_by_their_learning_rates(small):
    twice = SUITE + '[[methods]]\nmethod = "full"\nlearning_rate = 0.3\n'
    rates = {
        name: {
            trial.training.learning_rate
            for trial in choose(small(twice), [name]).trials
            if trial.training
        }
        for name in ("full", "full [learning rate 0.3]")
    }

    assert rates == {"full": {0.1, 0.3}, "full [learning rate 0.3]": {0.3}}
