"""A suite for a device that this machine lacks: one sentence, or a plan with a cost."""

import pytest

from bsrbench.harness.spec import suite_file

ABSENT = "cuda:99"
SUITE = """
seeds = [0]
[workload]
model = "test_vit"
image_size = 64
batch = 4
classes = 5
device = "cuda:99"
[profile]
rounds = 1
steps = 1
[[methods]]
method = "full"
[[methods]]
method = "head"
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def on_a_gpu():
    """Return the shipped suites that need a GPU."""
    return [
        name
        for name in suite_file.names()
        if suite_file.read(suite_file.find(name)).workload.device == "cuda"
    ]


def test_several_shipped_suites_need_a_gpu():
    assert {"gpu", "cifar-gpu", "paper"} <= set(on_a_gpu())


@pytest.mark.parametrize(
    ("command", "name"),
    [*(("run", name) for name in on_a_gpu()), ("tune", "paper"), ("tune", "cifar-gpu")],
)
def test_a_suite_without_its_device_says_one_sentence(command, name, typed, tmp_path, monkeypatch):
    """A machine with GPUs lacks the device, too: it is one of another number."""
    monkeypatch.chdir(tmp_path)
    code, said = typed(command, name, "--device", ABSENT)
    instead = ", or see the plan alone with --dry-run" if command == "run" else ""

    assert code == 2
    assert said.count("\n") == 1
    assert f"no device '{ABSENT}' here" in said
    assert f"choose another device with --device{instead}" in said
    assert list(tmp_path.rglob("*.json")) == []


def test_a_plan_needs_no_device(suite, tmp_path, typed):
    code, said = typed("run", suite, "--dry-run", "--results", tmp_path / "results")

    assert code == 0
    assert "2 trials to run: full, head; seed 0" in said
    assert f"a plan only: this machine has no {ABSENT}" in said
    assert "the largest predicted peak is 0.0 GiB (full)" in said
    assert "at an assumed 33,500 GFLOP/s, which an H100 reached in fp32" in said
    assert list((tmp_path / "results").rglob("*.json")) != []  # the predictions, for a later run
    assert list((tmp_path / "results" / "records").iterdir()) == []


def test_a_plan_for_a_name_that_torch_does_not_know_is_refused(suite, typed):
    code, said = typed("run", suite, "--dry-run", "--device", "cudaa")

    assert code == 2
    assert "no device 'cudaa'; torch expects" in said
