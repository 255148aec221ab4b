"""A method of one's own: written by a command, examined by another, used by name or file."""

import pytest

KINDS = ("bsr", "full", "int8", "lora")


@pytest.mark.parametrize("like", KINDS)
def test_a_new_method_keeps_every_promise(like, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = typed("new-method", "my_idea", "--like", like)
    checked, found = typed("check", "my_idea.py:MyIdea")

    assert code == 0
    assert "bsrbench check my_idea.py:MyIdea" in said
    assert (checked, "BROKEN" in found) == (0, False), found
    assert "EDIT" in (tmp_path / "my_idea.py").read_text()
    assert "@" not in (tmp_path / "my_idea.py").read_text().replace("@dataclass", "").replace(
        "x @ self.down.T @ self.up.T", ""
    ).replace("x @ down.T @ up.T", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new-method", "My-Idea"), "cannot be a method's name"),
        (("new-method", "idea", "--folder", "there"), "is there already"),
        (("check", "bsrr"), "did you mean 'bsr'"),
        (("check", "none.py:Mine"), "no file 'none.py'"),
    ],
)
def test_what_cannot_be_is_said(arguments, said, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "idea.py").write_text("")
    code, printed = typed(*arguments)

    assert code == 2
    assert said in printed


BASE = """
from dataclasses import dataclass
from harness.method import Kind, Method
@dataclass(frozen=True)
class Mine(Method):
    source, exact_forward, kinds = "baseline", True, frozenset({Kind.SELECTS_WEIGHTS})
    def prepare(self, model):
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Mine(:\n", "SyntaxError"),
        ("x = 1\n", "has no class 'Mine'"),
        ("import no_such_package_anywhere\n", "No module named 'no_such_package_anywhere'"),
        (BASE + "        model\n", "prepare() returned NoneType"),
        (BASE + "        return model\n", "a second prepare() on the same model is not refused"),
        (BASE + "        return model.blocks\n", "lost or copied parameters"),
    ],
)
def test_a_methods_file_that_cannot_work_gets_one_clear_message(text, said, typed, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    code, printed = typed("check", f"{path}:Mine")

    assert code in {1, 2}
    assert said in printed
    assert "Traceback" not in printed


def test_a_broken_promise_names_the_check_and_ends_with_1(typed, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        BASE.replace('"baseline", True', '"baseline", False') + "        return model\n"
    )
    code, printed = typed("check", f"{path}:Mine")

    assert code == 1
    assert "exact_forward is False, and the logits are those of the untouched model" in printed
    assert "the check: harness/conformance/promises.py:" in printed
