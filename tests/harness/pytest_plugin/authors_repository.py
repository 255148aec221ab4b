"""A repository of an author's: its method, its tests, and pytest run there."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MINE = '''
from __future__ import annotations  # which makes annotations of options text

import os
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness.method import Kind, Method


@dataclass(frozen=True)
class Mine(Method):
    """Trains the head, and the final norm if asked to."""

    norm: bool = False
    log: str = ""
    word: str = ""
    broken: bool = False
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.broken:
            raise RuntimeError("broken on purpose")
        model.requires_grad_(False)
        for part in [model.head, *([model.norm] if self.norm else [])]:
            part.requires_grad_(True)
        return model

    def step_done(self):
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {self.word}\\n")
'''
TINY = {"model": "test_vit", "image_size": 64, "batch": 4, "classes": 5, "threads": 1, "rounds": 3}
TESTS = f"""
import os
from pathlib import Path

import pytest
import torch

TINY = {TINY!r}


def test_mine(bsrbench):
    options = {{"norm": True}}
    mine = bsrbench("./mine.py:Mine", options=options, baseline="full", **TINY)

    # test_vit is 64 wide: a head of 64 x 5 weights and 5 biases, a norm of 64 and 64.
    assert mine.value("trained_parameters") == 325 + 128
    assert len(mine.measurements["step_seconds"]) == len(mine.step_ratios()) == 3
    assert mine.ratio("peak_counted_bytes") < 1


def test_each_step_follows_one_of_the_baseline(bsrbench, tmp_path):
    log = str(tmp_path / "log")
    theirs = {{"method": "./mine.py:Mine", "options": {{"log": log, "word": "theirs"}}}}
    bsrbench("./mine.py:Mine", options={{"log": log, "word": "ours"}}, baseline=theirs, **TINY)
    lines = [line.split() for line in Path(log).read_text().splitlines()]
    words = [word for pid, word in lines if pid == str(os.getpid())]

    assert words[-8:] == ["theirs", "ours"] * 4  # a round of warm-up, three timed


def test_torch_is_left_as_it_was(bsrbench):
    torch.set_num_threads(2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    bsrbench("head", **TINY)

    assert torch.get_num_threads() == 2
    assert torch.equal(expected, torch.rand(3))


def test_unsupported_may_be_expected(bsrbench):
    from bsrbench.harness.method import Unsupported

    with pytest.raises(Unsupported):
        bsrbench("bsr", **TINY)


def test_wrong_method(bsrbench):
    bsrbench("bsrr", **TINY)


def test_wrong_model(bsrbench):
    bsrbench("head", **TINY | {{"model": "test_vitt"}})


def test_wrong_option(bsrbench):
    bsrbench("./mine.py:Mine", options={{"nrom": True}}, **TINY)


def test_wrong_batch(bsrbench):
    bsrbench("head", **TINY | {{"batch": 0}})


def test_wrong_rounds(bsrbench):
    bsrbench("head", **TINY | {{"rounds": 0}})


def test_wrong_baseline(bsrbench):
    bsrbench("head", baseline={{"method": "full", "batch": 8}}, **TINY)


def test_wrong_unsupported(bsrbench):
    bsrbench("bsr", **TINY)


def test_wrong_crash(bsrbench):
    bsrbench("./mine.py:Mine", options={{"broken": True}}, **TINY)


def test_wrong_second_call(bsrbench):
    bsrbench("head", **TINY)
    bsrbench("head", **TINY)
"""
FAILURES = {
    "method": "BadInput: no method 'bsrr'; did you mean 'bsr'?",
    "model": "BadInput: no timm model 'test_vitt'; did you mean 'test_vit'?",
    "option": "BadInput: no option of './mine.py:Mine' named 'nrom'; did you mean 'norm'?",
    "batch": "BadInput: bsrbench: batch = 0: ",
    "rounds": "BadInput: bsrbench: rounds = 0: expected 1 or more",
    "baseline": "BadInput: no key of baseline 'batch'",
    "unsupported": "Unsupported: bsr: ",
    "crash": "crashed (memory pass: RuntimeError: broken on purpose (at mine.py:",
    "second_call": "BadInput: bsrbench was already called in this test",
}
ONE_TEST = f"""
def test_head(bsrbench):
    bsrbench("head", **{TINY!r})
"""
PLAIN_TEST = """
def test_nothing():
    pass
"""
FAILED = "FAILED --bsrbench-fail-if: "
BENCHMARK = ("-p", "pytest_benchmark.plugin")


def run_pytest(folder, *arguments, **files):
    """Run pytest in a repository of these files, our plugin loaded and no other unasked."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # pytest's settings are for the run this test is part of.
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    settings |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    ours = ("-p", "bsrbench.harness.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *ours, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=settings,
    )
