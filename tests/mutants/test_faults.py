"""The list of faults fits the project, and what runs it tells a survivor from what was caught."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def module():
    """Return the script, whose folder is no package."""
    spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("run.py"))
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


run = module()
FAULTS = run.read()


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


FAULT = run.Fault(name="a", file="a.py", old="x", new="y", test="test_a.py::test_a")


@pytest.mark.parametrize("text", ["y", "x x"])
def test_a_text_that_does_not_stand_once_is_not_replaced(text):
    with pytest.raises(ValueError, match=rf"has the text to replace {text.count('x')} times"):
        FAULT.planted(text)


@pytest.mark.parametrize(
    ("text", "code", "printed", "expected"),
    [
        ("x", 1, "FAILED test_a.py::test_a - assert 1 == 2", ("caught", "assert 1 == 2")),
        ("x", 0, "1 passed", ("SURVIVED", "1 passed")),
        ("x", 1, "ERROR test_a.py::test_a - NameError", ("TEST BROKEN", "ERROR test_a.py::test_a")),
        ("x", 4, "no tests ran", ("TEST BROKEN", "no tests ran")),
        ("x", None, "", ("TEST BROKEN", "not done")),
        ("z", 1, "FAILED test_a.py::test_a - assert 1 == 2", ("NOT PLANTED", "a.py has the text")),
    ],
)
def test_only_a_test_that_fails_catches_a_fault(
    text, code, printed, expected, tmp_path, monkeypatch
):
    seen = []
    path = tmp_path / "a.py"
    path.write_text(text)

    def answer(tree, tests, *_, **__):
        seen.append((path.read_text(), tests))
        return code, printed

    monkeypatch.setattr(run, "run_tests", answer)
    result, said = run.plant(tmp_path, FAULT)

    assert (result, said[: len(expected[1])]) == expected
    assert path.read_text() == text
    assert seen == ([] if text == "z" else [("y", ["test_a.py::test_a"])])


def test_a_test_that_fails_without_any_fault_catches_none(tmp_path, monkeypatch):
    other = run.Fault(name="b", file="a.py", old="x", new="y", test="test_a.py::test_b")
    broken = "FAILED test_a.py::test_a[b c] - assert 1 == 2\n1 failed, 1 passed"
    monkeypatch.setattr(run, "PRELOADED", ())
    monkeypatch.setattr(run.shutil, "copytree", lambda *_, **__: None)
    monkeypatch.setattr(run, "run_tests", lambda *_: (1, broken))
    monkeypatch.setattr(run, "plant", lambda *_: ("caught", ""))
    found = [(fault.name, result) for fault, result, _ in run.results(tmp_path, [FAULT, other])]

    assert found == [("a", "FAILS ANYWAY"), ("b", "caught")]


@pytest.mark.parametrize(("result", "code"), [("caught", 0), ("SURVIVED", 1), ("NOT PLANTED", 1)])
def test_a_survivor_ends_with_exit_code_1(result, code, monkeypatch, capsys):
    monkeypatch.setattr(run, "read", lambda: [FAULT])
    monkeypatch.setattr(run, "results", lambda *_: iter([(FAULT, result, "a|b")]))

    assert run.main([]) == code
    assert f"| a | a.py | test_a.py::test_a | {result} | a\\|b |" in capsys.readouterr().out
    assert run.main(["no such word"]) == 2
