"""The list of faults fits the project: each can be planted, and the test it names exists."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = runpy.run_path(str(Path(__file__).with_name("run.py")))
FAULTS = RUN["read"]()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault):
    right = (ROOT / fault.file).read_text(encoding="utf-8")

    assert fault.planted(right) != right


@pytest.mark.parametrize("test", sorted({fault.test for fault in FAULTS}))
def test_a_test_that_must_fail_exists(test):
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))

    assert name.partition("[")[0] in {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }


def test_faults_are_many_and_none_is_listed_twice():
    assert len(FAULTS) >= 75
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)


def test_a_text_that_stands_twice_is_not_replaced():
    fault = RUN["Fault"]("a", "f.py", "x", "y", "t")

    with pytest.raises(ValueError, match="has the text to replace 2 times"):
        fault.planted("x x")
    with pytest.raises(ValueError, match="has the text to replace 0 times"):
        fault.planted("y")
