"""The command that shows what a GPU has to show keeps what is done, and ends with a table."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.gpu import steps
from tests.gpu.__main__ import main
from tests.gpu.steps import Step, do, marked_tests

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def step(tmp_path):
    """Return a maker of steps that note each of their runs in a file."""

    def make(name, code=0, **changes):
        note = f"open({str(tmp_path / 'notes')!r}, 'a').write({name!r} + ' ')"
        return Step(name, ("-c", f"print('out of {name}'); {note}; exit({code})"), **changes)

    return make


@pytest.fixture
def noted(tmp_path):
    return lambda: (tmp_path / "notes").read_text().split()


def test_steps_that_have_passed_are_not_done_twice(step, noted, tmp_path):
    """One that fails stops nothing, and is done again; so is one that resumes by itself."""
    listed = [step("first"), step("second", code=3), step("third", resumes=True)]
    first = do(listed, tmp_path, again=False)
    second = do(listed, tmp_path, again=False)

    assert [(each.step, each.code) for each in first] == [("first", 0), ("second", 3), ("third", 0)]
    assert [each.code for each in second] == [0, 3, 0]
    assert noted() == ["first", "second", "third", "second", "third"]
    assert (tmp_path / "first.txt").read_text() == "out of first\n"


def test_every_step_is_done_again_where_it_is_asked_for(step, noted, tmp_path):
    do([step("first")], tmp_path, again=False)
    do([step("first")], tmp_path, again=True)

    assert noted() == ["first", "first"]


def test_a_step_is_done_again_after_a_change_of_the_sources(step, noted, tmp_path, monkeypatch):
    do([step("first")], tmp_path, again=False)
    monkeypatch.setattr(steps, "hash_of_sources", lambda: "another")
    do([step("first")], tmp_path, again=False)

    assert noted() == ["first", "first"]


@pytest.mark.parametrize("text", ["", "[1]", "{}", '[{"step": "first"}]'])
def test_a_damaged_list_of_steps_is_an_empty_one(text, step, noted, tmp_path):
    (tmp_path / "steps.json").write_text(text)
    (ended,) = do([step("first")], tmp_path, again=False)

    assert ended.code == 0
    assert noted() == ["first"]


def test_a_step_that_cannot_run_says_why(step, tmp_path):
    (ended,) = do([step("tests", missing="pytest is not installed")], tmp_path, again=False)

    assert ended.words() == "not run: pytest is not installed"
    assert not (tmp_path / "tests.txt").exists()


def test_tests_that_need_a_gpu_are_found_by_their_mark():
    found = marked_tests()

    assert "tests/harness/devices/test_cuda.py" in found
    assert "tests/methods/test_offload.py" in found
    assert all("cuda" in (ROOT / name).read_text() for name in found)
    assert len(found) < 20


def test_a_machine_without_the_device_gets_one_sentence(tmp_path):
    result = CliRunner().invoke(main, ["--device", "cuda:99", "--out", str(tmp_path / "out")])

    assert result.exit_code == 2
    assert "no device 'cuda:99' here" in result.output
    assert "choose another device with --device" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


WAITS = """
import signal, sys
from pathlib import Path
from tests.gpu.steps import Step, do
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
inner = "import os, time; open({pid!r}, 'w').write(str(os.getpid())); time.sleep(600)"
do([Step("first", ("-c", "pass")), Step("second", ("-c", inner))], Path({out!r}), again=False)
"""


def test_a_command_that_is_ended_ends_its_step_and_keeps_what_has_passed(tmp_path, step, noted):
    pid = tmp_path / "pid"
    text = WAITS.format(pid=str(pid), out=str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = subprocess.Popen([sys.executable, "-c", text], env=environment)
    while not (pid.exists() and pid.read_text()):
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(signal.SIGTERM)
    code = command.wait()
    do([step("first"), step("second")], tmp_path, again=False)

    assert code == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert noted() == ["second"]
