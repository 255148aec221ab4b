"""Suites and command lines that nobody means: an error at once, in words."""

import json

import pytest
from click.testing import CliRunner

from bsrbench.harness.cli import main
from bsrbench.harness.errors import BadInput
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search import candidate_costs, search_effort
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.label_grammar import json_of
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.toml_text import parse_toml

HEAD = """seeds = {seeds}
[workload]
model = "test_vit"
batch = 2
[training]
steps = 2
learning_rate = 0.1
"""
ROW = '[[methods]]\nmethod = "full"\n'


def text_of(seeds="[0]", more="", rows=1):
    return HEAD.format(seeds=seeds) + more + ROW * rows


VARIED = ("batch", "threads", "classes", "image_size", "layer_decay", "momentum")
VARY = "[vary]\n" + "".join(f"{key} = {list(range(2, 200))}\n" for key in VARIED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (text_of(list(range(200_000))), r"it has 1,[0-9,]+ bytes, more than 1,048,576"),
        (text_of(list(range(10_001))), "at most 10000 items"),
        (text_of(list(range(9_000)), rows=2), "has 18,000 trials"),
        (text_of([7] * 9_000), "names 7 twice"),
        (text_of("[" + "9" * 5000 + "]"), "a number has more than 4300 digits"),
        (text_of("[" * 5000), "nested more than 50 levels deep"),
        (text_of(more=VARY), "has more than 1,000,000,000,000 trials"),
        (text_of(more="[[questions]]\n" * 10_001), "has 10,001 trials"),
        (text_of() + "to_try = [\n" + "".join(f"{n}.5,\n" for n in range(10_001)) + "]", "to try"),
        (text_of() + 'options = {"a" = ' + "{a = " * 60 + "1" + "}" * 61, "levels deep"),
        (text_of(more="a" + ".a" * 100_000 + " = 1\n"), "more than 300 dots"),
        (text_of() + f'{"k" * 900_000} = 1', r"no key 'k{200}\.\.\.'"),
        (text_of() + '"\\u001b[31m" = 1', "no key"),
        (text_of().replace("batch = 2", "batch = 10000000000"), "less than or equal to 2147483647"),
        ("".join(f"k{n} = 1\n" for n in range(9_000)), r"and 8983 more errors$"),
        (
            text_of(more="[[questions]]\n" + "".join(f'[questions.chosen."full{" " * n}"]\n'
                    "learning_rate = 1.0\n" for n in range(2))),
            "chosen names 2 rows, but there are 1 methods",
        ),
    ],
    ids=lambda value: value[:24].replace("\n", " ") if isinstance(value, str) else None,
)  # fmt: skip
def test_a_suite_that_nobody_means_is_an_error_at_once(text, said, tmp_path):
    path = tmp_path / "any.toml"
    path.write_text(text)

    with pytest.raises(BadInput, match=said) as refused:
        suite_file.read(path)

    assert len(str(refused.value)) < 5_000


def test_a_suite_of_a_thousand_rows_each_with_its_choice_is_read(tmp_path):
    """Which row a label means is found once a question, not once a row: that took minutes."""
    chosen = "".join(f'[questions.chosen."m{n}"]\nlearning_rate = 1.0\n' for n in range(1_000))
    rows = "".join(f'[[methods]]\nmethod = "m{n}"\n' for n in range(1_000))
    (tmp_path / "any.toml").write_text(HEAD.format(seeds=[0]) + "[[questions]]\n" + chosen + rows)

    assert len(suite_file.read(tmp_path / "any.toml").trials()) == 1_000


@pytest.mark.parametrize(
    "setting", ["a." * 200 + "b=1", 'workload.model="\udcff"', "a=" + "9" * 5000]
)
def test_a_setting_that_nobody_means_is_said(setting):
    ended = CliRunner().invoke(main, ["run", "quick", "--dry-run", "--set", setting])

    assert ended.exit_code == 2
    assert ended.output.startswith("error: ")


@pytest.mark.parametrize("path", ["a" * 4000, "a/" * 1999 + "x.toml", "a" * 4000 + ".toml"])
@pytest.mark.parametrize(
    "command", [["run"], ["report"], ["status"], ["run", "late", "--data-root"]]
)
def test_a_path_that_no_system_takes_is_said(command, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, [*command, path])

    assert ended.exit_code == 2
    assert "Traceback" not in ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, "x" * 100_000, '"\\ud800'])
def test_json_that_nobody_means_is_said_in_short(text):
    with pytest.raises(BadInput, match="is not a JSON value") as refused:
        json_of(text)
    with pytest.raises(BadInput):
        RowLabel.parse(f"bsr (a={text})")

    assert len(str(refused.value)) < 1_000


def test_text_that_no_file_can_hold_is_no_toml():
    with pytest.raises(ValueError, match="an unpaired surrogate"):
        parse_toml('a = "\udcff"')


GOOD = {"peak_bytes": 1, "step_flop": 2, "trained_parameters": 3, "reason": ""}


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"a": GOOD}, {"a": StepCost(1, 2, 3, "")}),
        ({"a": GOOD | {"peak_bytes": "7"}}, {}),
        ({"a": GOOD | {"peak_bytes": 1.5}}, {}),
        ({"a": GOOD | {"reason": None}}, {}),
        ({"a": 5}, {}),
        ([], {}),
        (5, {}),
    ],
)
def test_predictions_of_another_form_are_made_again(kept, expected, tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps(kept))

    assert candidate_costs._read(tmp_path / "costs.json") == expected


@pytest.mark.parametrize("first", ["7", "-7", "1e999", "99999999999", '"x"', "null", "[]"])
def test_a_decision_of_another_form_is_made_again(first, tmp_path):
    path = tmp_path / "effort.json"
    assert search_effort.remembered(path, {}, lambda: 5) == 5
    path.write_text(path.read_text().replace('"first": 5', f'"first": {first}'))

    assert search_effort.remembered(path, {}, lambda: 6) == (7 if first == "7" else 6)
