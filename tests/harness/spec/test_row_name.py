"""A label that was printed is read back as the row it names, whatever stands in it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.label_grammar import split_at_commas
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AXES, axis_in_words, axis_of_words, keys_of_axes
from bsrbench.reports.wording.safe_text import on_one_line

VALUES = {
    "micro_batch": [None, 1, 128],
    "precision": ["fp32", "bf16", "fp16"],
    "compiled_step": [False, True],
    "optimizer_in_backward": [False, True],
    "optimizer": ["sgd", "adamw", "lion beta1=0.5"],
}
PLAIN = Workload(model="test_vit", batch=128)
PRINTED = [
    (RowLabel("full"), "full"),
    (RowLabel("full", axes={"micro_batch": 1}), "full (micro-batch 1)"),
    (
        RowLabel("bsr+int8", {"bsr": {"trained_blocks": [11], "drop_at": []}}),
        'bsr+int8 (bsr={"trained_blocks": [11], "drop_at": []})',
    ),
    (
        RowLabel("lora", {"rank": 4}, {"precision": "bf16"}, {"learning_rate": (0.001, 0.0)}),
        "lora (rank=4, bf16) [learning rate 0.001]",
    ),
    (RowLabel("lora", {"rank": 4}, {"precision": "fp16"}), "lora (rank=4, fp16)"),
    (RowLabel("mine", {"name": "a [b] (c), d"}), 'mine (name="a [b] (c), d")'),
    (RowLabel("mine", {"name": 'a "["'}), 'mine (name="a \\"[\\"")'),
    (RowLabel("mine", {"name": "名前"}), 'mine (name="名前")'),
    (RowLabel("mine", {"name": "a  b\u202e"}), 'mine (name="a \\u0020b\\u202e")'),
    (RowLabel("./my files/mine.py:Mine", {"x": 1}), "./my files/mine.py:Mine (x=1)"),
    (RowLabel("mine (1).py:Mine", {"x": 1}), '"mine (1).py:Mine" (x=1)'),
    (RowLabel("[a], b.py:Mine"), '"[a], b.py:Mine"'),
    (RowLabel("=SUM(1)"), "=SUM(1)"),
    (RowLabel("full*"), '"full*"'),
    (RowLabel("m", {"a=b": 1, "c d": None}), 'm ("a=b"=1, c d=null)'),
    (
        RowLabel("bsr", apart={"machine": "ab12", "learning_rate": None}),
        "bsr [machine ab12, not trained]",
    ),
    (
        RowLabel("bsr", apart={"learning_rate": (0.10000001, 1e-5)}),
        "bsr [learning rate 0.10000001 to 1e-05]",
    ),
    (RowLabel("bsr", apart={"machine": "a, b] c"}), 'bsr [machine "a, b] c"]'),
]


@pytest.mark.parametrize(("label", "text"), PRINTED, ids=[text for _, text in PRINTED])
def test_a_label_is_printed_and_read_back(label, text):
    assert str(label) == text
    assert RowLabel.parse(text) == label


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
signs = st.sampled_from([*'()[]{}",=*:+ \\', " (", " [", "…", "\n", "\u202e", "é", "py"])
names = st.lists(signs | st.text(max_size=3), min_size=1, max_size=6).map("".join)
labels = st.builds(
    RowLabel,
    names,
    st.dictionaries(names, json_values, max_size=2),
    st.fixed_dictionaries({}, optional={axis: st.sampled_from(VALUES[axis]) for axis in AXES}),
    st.fixed_dictionaries(
        {},
        optional={
            "machine": names,
            "learning_rate": st.none() | st.tuples(st.floats(1e-9, 10), st.floats(0, 1)),
        },
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(label=labels)
def test_any_label_comes_back_as_it_was_from_any_document(label):
    """Documents print on one line, without what moves a cursor; lists on a command line split."""
    text = str(label)
    read = RowLabel.parse(text)

    assert on_one_line(text) == text
    assert split_at_commas(f"full,{text},bsr") == ["full", text, "bsr"]
    assert (read.method, read.axes, read.apart) == (label.method, label.axes, label.apart)
    assert json.dumps(read.options) == json.dumps(label.options)  # == would take 1 for True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("full (micro-batch 0)", "'micro-batch 0' is neither an option .* nor an axis"),
        ("full (bf17)", "'bf17' is neither"),
        ("lora (rank=four)", "option 'rank': 'four' is not a JSON value"),
        ("lora (rank=4) (alpha=2)", "expected METHOD"),
        ("lora [rank 4]", "'rank 4' is not known in square brackets"),
        ("lora [learning rate much]", "is not known in square brackets"),
        ("lora [learning rate 0.1 to little]", "is not known in square brackets"),
        ("lora (rank=[4)", "has no opening bracket"),
        ("(rank=4)", None),  # a method of this name, for no blank stands before the bracket
        ("", "expected METHOD"),
    ],
)
def test_what_is_no_label_is_refused(text, said):
    if said is None:
        assert RowLabel.parse(text).method == text
        return
    with pytest.raises(BadInput, match=said):
        RowLabel.parse(text)


def test_names_are_split_at_commas_outside_brackets_and_quotes():
    text = 'full, bsr (trained_blocks=[11, 3]),"a, b.py:M" (x={"y": ",)"}),'

    assert split_at_commas(text) == [
        *("full", "bsr (trained_blocks=[11, 3])", '"a, b.py:M" (x={"y": ",)"})'),
        "",
    ]


@pytest.mark.parametrize("text", ["bsr (x=[1],full", "bsr)", 'a",b', "a (x=[1})", '"\\'])
def test_a_bracket_or_quote_without_its_other_half_is_refused(text):
    with pytest.raises(BadInput, match="in double quotes, as in JSON"):
        split_at_commas(text)


def test_every_value_of_every_axis_has_words_of_its_own():
    words = {(axis, value): axis_in_words(axis, value) for axis in AXES for value in VALUES[axis]}

    assert set(VALUES) == set(AXES)
    assert len(set(words.values())) == len(words) == 13
    for (axis, value), text in words.items():
        assert axis_of_words(text) == (axis, value)


def name_of(options, **axes):
    workload = Workload(**PLAIN.model_dump() | keys_of_axes(axes))
    return TrialSpec(method="m", options=options, workload=workload, profile=Profile()).row_name()


def test_a_row_is_known_by_method_options_and_axes():
    """Not by the order of its options; and 4 is not 4.0, for the specs differ."""
    assert name_of({"a": 1, "b": [2]}) == name_of({"b": [2], "a": 1})
    assert len({name_of({"a": value}) for value in (4, 4.0, "4", [4], True, None)}) == 6
    assert len({name_of({}), *(name_of({}, **{a: VALUES[a][-1]}) for a in AXES)}) == 6
    assert name_of({}) == RowName.of("m", {}, PLAIN.axis_values())


def test_axes_that_go_without_saying_are_filled_in():
    beside = {**PLAIN.axis_values(), "precision": "bf16"}
    said = [RowLabel.parse(text).name(beside).axes for text in ("m", "m (fp32)", "m (bf16)")]

    assert said[0] == said[2] == (None, "bf16", False, False, "sgd")
    assert said[1] == (None, "fp32", False, False, "sgd")
