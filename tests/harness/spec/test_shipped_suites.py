"""The suites that are shipped are valid, and ask what they say."""

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.suite_file import find, read


def test_names_the_nearest_suite():
    with pytest.raises(BadInput, match="did you mean 'quick'"):
        suite_file.find("quik")


def test_every_shipped_suite_is_valid_and_describes_itself():
    for name in suite_file.names():
        assert suite_file.read(suite_file.find(name)).description


def test_the_paper_suite_asks_for_the_whole_comparison():
    """Two models, five data sets, eleven rows, three seeds; a profile for each row of each."""
    trials = suite_file.read(suite_file.find("paper")).trials()
    asked = {(s.workload.model.partition("_")[0], s.workload.data) for s in trials}

    assert len([spec for spec in trials if spec.training]) == 2 * 5 * 11 * 3
    assert len([spec for spec in trials if spec.profile]) == 2 * 5 * 11
    assert len(asked) == 10


def test_the_paper_suite_has_the_published_recipes():
    """FACTS, "Recipe": rates and steps of ViT-B by data set; DeiT-S clips no gradients."""
    trained = [spec for spec in suite_file.read(suite_file.find("paper")).trials() if spec.training]
    vit = {
        s.workload.data: (s.training.learning_rate, s.training.steps, s.training.clip_norm)
        for s in trained
        if s.workload.optimizer == "sgd"
    }
    deit = [spec for spec in trained if spec.workload.optimizer == "adamw"]

    assert vit == {
        "cifar10": (1e-3, 20_000, 1.0),
        "cifar100": (1e-2, 20_000, 1.0),
        "pets": (1e-3, 20_000, 1.0),
        "flowers102": (3e-2, 20_000, 1.0),
        "food101": (1e-2, 30_000, 1.0),
    }
    assert {
        (t.learning_rate, t.clip_norm, t.label_smoothing, t.augmentation, t.head)
        for t in (spec.training for spec in deit)
    } == {(5e-4, None, 0.1, "crop-flip", "tiny")}
    assert {
        (w.layer_decay, w.weight_decay, w.decay_vectors, w.precision, w.batch)
        for w in (spec.workload for spec in deit)
    } == {(0.75, 0.05, False, "bf16", 128)}
    assert {spec.training.warmup_steps / spec.training.steps for spec in deit} == {0.1}


def test_shipped_suites_of_several_tasks_are_read():
    for name, top_k in (("multitask-small", 2), ("multitask-paper", 4)):
        suite = read(find(name))
        assert suite.workload.multitask.top_k == top_k
        assert {"full", "head", "bsr", "bsr+int8"} <= {row.method for row in suite.methods}
