"""What is refused of several tasks, with the reason."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import models, tasks
from tests.harness.training.two_tasks import MULTITASK


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ["digits", "digits"]}, "tasks names digits more than once"),
        ({"tasks": ["digits"]}, "at least 2 items"),
        (
            {"classes": [10]},
            r"more tasks than heads: 2 tasks \(digits, noise\) and 1 heads \(classes = \[10\]\)",
        ),
        ({"classes": [10, 10, 3]}, "more heads than tasks: 2 tasks .* and 3 heads"),
        ({"top_k": 5}, "top_k 5 is larger than the number of experts, 4"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"experts": 1}, "greater than or equal to 2"),
        ({"expert_blocks": [3, 3]}, "expert_blocks names 3 more than once"),
        ({"expert_blocks": [-1]}, "greater than or equal to 0"),
        ({"gates": 3}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_what_cannot_be_several_tasks_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Workload(model="test_vit", batch=2, multitask=MULTITASK | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "digits"}, r"multitask names its own data \(digits, noise\) and classes: leave"),
        ({"classes": 5}, "leave data and classes out"),
        ({"compiled_step": True}, "compiled_step compiles one graph, but with multitask each task"),
    ],
    ids=str,
)
def test_what_does_not_go_with_several_tasks_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Workload(model="test_vit", batch=2, multitask=MULTITASK, **changes)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ({"expert_blocks": [12]}, r"expert_blocks names blocks \[12\]; the model has 0 to 11"),
        ({"classes": [10, 7]}, ""),
        ({"classes": [9, 10]}, "'digits' has 10 classes, not 9"),
    ],
    ids=str,
)
def test_what_the_model_or_the_data_do_not_have_is_refused(workload, said, make_multitask):
    spec = make_multitask(multitask=MULTITASK | workload)
    if not said:  # noise has as many classes as asked
        assert tasks.classes(spec.workload) == (10, 7)
        return

    with pytest.raises(BadInput, match=said):
        models.outline(spec.workload, tasks.classes(spec.workload))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("test_vit", "expert_blocks is the paper.s choice for 12 blocks; the model has 6, so set"),
        ("resnet18", "ResNet does not support several tasks: ResNet is not one of timm's Vision"),
    ],
)
def test_a_model_that_cannot_take_experts_is_refused(model, said):
    workload = Workload(model=model, batch=2, multitask=MULTITASK)

    with pytest.raises(BadInput, match=said):
        models.outline(workload, (10, 10))


def test_a_mistake_in_a_suite_is_said_with_its_place(tmp_path, typed):
    file = tmp_path / "mine.toml"
    file.write_text(
        'seeds = [0]\n[workload]\nmodel = "test_vit"\nbatch = 2\n[workload.multitask]\n'
        'tasks = ["digits", "noise"]\nexperts = 4\ntop_k = 8\n[profile]\n'
        '[[methods]]\nmethod = "full"\n'
    )
    code, output = typed("run", file)

    assert code == 2
    assert "top_k 8 is larger than the number of experts, 4" in output.replace("\n", " ")
