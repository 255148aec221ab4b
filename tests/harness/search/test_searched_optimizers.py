"""A search may choose the optimizer."""

import json
from itertools import product

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search import search_outcome
from bsrbench.harness.search.question_of_suite import question_of
from bsrbench.harness.search.search_space import make_space
from bsrbench.harness.search.search_stages import Search
from bsrbench.harness.search.searched_optimizers import usual_rate, workloads_with
from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.suite_file import read
from bsrbench.harness.spec.trial_spec import Workload
from tests.harness.search.made_up_world import PROFILE, WORKLOAD, made_record

ADAMW = WORKLOAD.model_copy(update={"optimizer": "adamw"})
NAMES = ("lion", "galore rank=8", "sgd momentum=0")
SUITE = """
seeds = [0]
[workload]
model = "test_vit"
weights = "random"
data = "digits"
image_size = 32
batch = 4
optimizer = "adamw"
threads = 1
[training]
steps = 4
learning_rate = 1e-3
[profile]
rounds = 1
steps = 1
warmup_steps = 0
[[methods]]
method = "full"
to_try = [1e-3]
"""


def full_space(names=NAMES):
    workloads = workloads_with(ADAMW, names)
    return workloads, make_space("full", methods.load("full"), workloads, 12, ["int8"], PROFILE)


def test_each_optimizer_is_a_setting_of_its_own():
    """4 optimizers x 2 companions x 2 micro-batches; the suite's optimizer comes first."""
    _, space = full_space()

    assert [setting["optimizer"] for setting in space.settings] == ["adamw", *NAMES]
    assert len({candidate.row_id for candidate in space.candidates}) == 16
    assert space.plain(2).spec.workload.optimizer_options.rank == 8
    assert space.plain(3).spec.workload.momentum == 0
    assert space.plain(1).spec.options == {}
    assert sorted(space.neighbours(0)) == [1, 2, 3]


def test_with_the_settings_of_a_method_the_optimizer_is_one_more_choice():
    """175 settings x 2 optimizers; the neighbours of the published one are 13 and one more."""
    workloads = workloads_with(ADAMW, ["adamw8"])
    space = make_space("bsr", methods.load("bsr"), workloads, 12, [], PROFILE)
    labels = {candidate.spec.label(ADAMW) for candidate in space.candidates}

    assert len(space.settings) == 350
    assert len(space.neighbours(0)) == 14
    assert {"bsr", "bsr (adamw8)", "bsr (micro-batch 2, adamw8)"} <= labels


def test_every_optimizer_has_a_usual_rate():
    """A momentum of 0.9 adds up ten steps, so sgd without momentum needs ten times its rate."""
    rate = {name: usual_rate(_workload(optimizer=name)) for name in OPTIMIZERS}

    assert rate["adamw"] == 1
    assert rate["lion"] == 0.3
    assert rate["sgd"] == pytest.approx(300)
    assert usual_rate(_workload(optimizer="sgd", momentum=0.0)) == pytest.approx(3000)


def _workload(**keys):
    return Workload(**WORKLOAD.model_dump() | keys)


def test_an_optimizer_is_searched_once():
    assert workloads_with(ADAMW, ["adamw", "lion", "lion"]) == [
        ADAMW,
        ADAMW.model_copy(update={"optimizer": "lion"}),
    ]


def question(rows):
    suite = Suite(
        seeds=(0,),
        workload=ADAMW,
        training={"steps": 8, "learning_rate": 1e-3},
        methods=[{"method": "full"} | row for row in rows],
    )
    return question_of(suite, "full", workloads_with(ADAMW, NAMES), 100)


def test_the_rates_of_an_optimizer_are_those_of_its_row():
    goal = question(
        [
            {"to_try": [1e-4, 1e-3]},
            {"optimizer": "lion", "to_try": [2e-5, 2e-4]},
            {"optimizer": "lion", "micro_batch": 2, "to_try": [1, 2]},
        ]
    )

    assert goal.rates == (1e-4, 1e-3)
    assert goal.other_rates["lion"] == (2e-5, 2e-4)


def test_without_a_row_the_rates_are_scaled():
    """Those of lion are 0.3 of AdamW's; every optimizer gets as many."""
    goal = question([{"to_try": [1e-4, 1e-3]}])
    _, space = full_space()

    assert goal.rates_for(space.plain(0).spec) == (1e-4, 1e-3)
    assert goal.rates_for(space.plain(1).spec) == (3e-5, 3e-4)
    assert {len(rates) for rates in goal.other_rates.values()} == {2}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw9", "did you mean 'adamw"),
        ("lion rank=4", "its options|for its options"),
        ("galore rank=much", "numbers for its options"),
        ("galore rank=0", "--optimizers: optimizer_options.rank"),
    ],
)
def test_a_wrong_optimizer_is_said(name, expected):
    with pytest.raises(BadInput, match=expected):
        workloads_with(ADAMW, [name])


def searched(memory_bytes):
    """Search where AdamW needs 100 bytes, and is as accurate as Lion, which needs 60."""
    workloads, space = full_space(["lion"])
    costs = {c.row_id: _cost(c.spec) for c in space.candidates}
    goal = question_of(
        Suite(
            seeds=(0, 1),
            workload=ADAMW,
            training={"steps": 8, "learning_rate": 1e-3},
            methods=[{"method": "full", "to_try": [1e-4, 1e-3]}],
        ),
        "full",
        workloads,
        memory_bytes,
    )
    asked = []

    def do(specs):
        asked.extend(specs)
        return [_record(spec) for spec in specs]

    tried = Search(space, costs, goal, do, lambda _: None).run()
    return search_outcome.account(space, costs, goal, tried), asked


def _cost(spec):
    return StepCost(60 if spec.workload.optimizer == "lion" else 100, 1000, 1)


def _record(spec):
    if spec.training:
        return made_record(spec, validation_accuracy_top1=0.5)
    peak = _cost(spec).peak_bytes
    return made_record(
        spec, peak_counted_bytes=peak, peak_allocated_bytes=peak, step_seconds=[1.0, 1.0, 1.0]
    )


def test_a_budget_too_small_for_one_optimizer_is_met_by_another(tmp_path):
    """Every measured row but the published one has Lion, and 'found.toml' says so."""
    result, _ = searched(memory_bytes=80)
    search_outcome.write_suite(result, tmp_path / "found.toml")
    found = read(tmp_path / "found.toml")
    labels = [str(row.label(found.workload)) for row in found.methods]

    assert result.rows[0].label == "full"
    assert {row.optimizer for row in result.rows[1:]} == {"lion"}
    assert labels[0] == "full"
    assert "full (lion)" in labels
    assert result.fitting == 4  # of 8


def test_each_optimizer_is_trained_with_its_own_rates():
    _, asked = searched(memory_bytes=80)
    rates = {
        (spec.workload.optimizer, spec.training.learning_rate) for spec in asked if spec.training
    }

    assert {pair for pair in rates if pair[0] == "lion"} <= set(product(["lion"], [3e-5, 3e-4]))
    assert ("lion", 3e-5) in rates
    assert ("adamw", 1e-4) in rates
    assert ("adamw", 3e-5) not in rates


def test_the_command_finds_an_optimizer_for_a_budget(typed, tmp_path):
    """The budget is between the predicted peaks of AdamW and of sgd without momentum."""
    suite, out = tmp_path / "small.toml", tmp_path / "out"
    suite.write_text(SUITE, encoding="utf-8")
    estimate = ("estimate", "--model", "test_vit", "--method", "full", "--batch", "5", "--json")
    estimate = (*estimate, "--image-size", "32", "--optimizer")
    peaks = [
        json.loads(typed(*estimate, *words)[1])["measurements"]["peak_estimated_bytes"]
        for words in (["adamw"], ["sgd", "--optimizer-option", "momentum=0"])
    ]
    asked = ["search", "--like", suite, "--memory", f"{sum(peaks) // 2}B", "--time", "1s"]
    asked += ["--method", "full", "--with", "", "--results", out]

    code, said = typed(*asked, "--optimizers", "sgd momentum=0", "--set", "workload.batch=5")
    found = read(out / "found.toml")

    assert code == 0, said
    assert [str(row.label(found.workload)) for row in found.methods] == [
        "full",
        "full (sgd momentum=0)",
    ]
    assert "optimizer sgd momentum=0" in (out / "search.md").read_text(encoding="utf-8")
