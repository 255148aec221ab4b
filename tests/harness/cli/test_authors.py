"""A method of one's own: written by a command, examined by another, used by name or file."""

import importlib.util
import sys
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness import renamed_modules
from bsrbench.harness.conformance.unchecked import UNSEEN
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Kind
from bsrbench.methods.parts import token_dropping

ROOT = Path(__file__).resolve().parents[3]
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
        (("new-method", "idea", "--folder", "there"), "already exists"),
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
from bsrbench.harness.method import Kind, Method
@dataclass(frozen=True)
class Mine(Method):
    source, exact_forward, kinds = "baseline", True, frozenset({Kind.SELECTS_WEIGHTS})
    def prepare(self, model):
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Mine(:\n", "SyntaxError"),
        ("x = 1\n", "expected FILE.py:CLASS, but the file defines no Method"),
        ("import no_such_package\n", "needs the package 'no_such_package', which is not inst"),
        ("\n1 / 0\n", "mine.py:2: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)\n", "mine.py:1: SystemExit: 0"),
        (BASE.rpartition("    def")[0], "Mine' does not define prepare(self, model)"),
        (BASE + "        import no_such_package\n", "'no_such_package' (mine.py:8)\n"),
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
    assert "NoneType' object" not in printed


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("        model\n", "crashed: TypeError: prepare() returned NoneType; expected the model"),
        ("        return model.trunk\n", "no attribute 'trunk'"),
        ("        raise RuntimeError('lost')\n", "crashed: RuntimeError: lost (at mine.py:8)"),
    ],
)
def test_a_method_that_cannot_be_prepared_is_an_outcome(body, said, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BASE + body)
    (tmp_path / "tiny.toml").write_text(SUITE + 'method = "head"\n')
    mine = "mine.py:Mine"
    run = typed("run", "tiny.toml", "--methods", mine, "--results", "results")
    estimated = typed("estimate", "--model", "test_vit", "--method", mine, "--batch", "1")

    for code, printed in (run, estimated):
        assert (code, "Traceback" in printed) == (1, False)
        assert said in printed.replace("crashed (training pass", "crashed")


@pytest.mark.parametrize("asked", ["{}", "{}:Theirs"])
def test_a_file_with_two_methods_says_how_to_name_one(asked, typed, tmp_path):
    path = tmp_path / "mine.py"
    body = BASE + "        return model\n"
    path.write_text(body + body.replace("Mine", "Other"))
    code, printed = typed("check", asked.format(path))

    assert code == 2
    assert f"expected {path}:Mine or {path}:Other" in printed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Mine(:\n", "methods/broken.py: SyntaxError"),
        ("import no_such_package\n", "methods/broken.py needs the package 'no_such_package'"),
        (f"{BASE}        return model\n{BASE}        return model\n".replace("Mine", "A", 1), "2"),
    ],
)
def test_a_broken_file_among_the_methods_is_named(text, said, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])

    assert "broken" in methods.names()
    with pytest.raises(BadInput, match=said):
        methods.find("broken")
    sys.modules.pop("methods.broken", None)


def test_an_installed_package_brings_a_method_by_entry_point(typed, tmp_path, monkeypatch):
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[bsrbench.methods]\ntheirs = their_package:Mine\ngone = their_package:Gone\n"
    )
    (tmp_path / "their_package.py").write_text(BASE + "        return model\n")
    (tmp_path / "tiny.toml").write_text(SUITE + 'method = "theirs"\n')
    monkeypatch.syspath_prepend(tmp_path)
    code, said = typed("run", tmp_path / "tiny.toml", "--results", tmp_path / "results")

    assert {"theirs", "gone", "bsr"} <= set(typed("list", "methods")[1].split())
    assert (code, "theirs" in said) == (0, True)
    with pytest.raises(BadInput, match="their_package:Gone' of the method 'gone': AttributeError"):
        methods.find("gone")
    sys.modules.pop("their_package", None)


def test_a_suite_alone_runs_no_file(typed, tmp_path):
    """It may be somebody else's; the file is not even read."""
    path = tmp_path / "theirs.py"
    path.write_text("raise RuntimeError('read')\n")
    suite = tmp_path / "theirs.toml"
    suite.write_text(SUITE + f'method = "{path}:Theirs"\nto_try = [0.1]\n')
    where = ("--results", tmp_path / "results")
    for command in ("run", "tune"):
        code, said = typed(command, suite, *where)
        trusted = typed(command, suite, "--trust", f"{path}:Theirs", *where)

        assert code == 2
        assert f"read the file, then add --trust {path}:Theirs" in said
        assert trusted == (2, f"error: {path}:1: RuntimeError: read\n")
    assert typed("run", suite, "--methods", f"{path}:Theirs", *where) == trusted
    code, said = typed("run", suite, "--methods", "*Theirs", *where)
    assert (code, "then add --trust" in said) == (2, True)  # a pattern names no file


SUITE = """
seeds = [0]
[workload]
model = "test_vit"
data = "digits"
batch = 2
[training]
steps = 1
learning_rate = 0.1
[[methods]]
"""


def test_a_broken_promise_names_the_check_and_ends_with_1(typed, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        BASE.replace('"baseline", True', '"baseline", False') + "        return model\n"
    )
    code, printed = typed("check", f"{path}:Mine")

    assert code == 1
    assert "exact_forward is False, but the logits equal those of the original model" in printed
    assert "the check: harness/conformance/promises.py:" in printed


def test_check_says_that_it_does_not_see_which_tokens_are_dropped(typed, monkeypatch):
    """A BSR that keeps what it should drop keeps every promise; tests/methods/test_bsr.py fails."""
    drop = token_dropping.drop

    def drop_the_best(x, attention, kept, *, fuse):
        return drop(x, 1 - attention, kept, fuse=fuse)

    monkeypatch.setattr(token_dropping, "drop", drop_the_best)
    code, printed = typed("check", "bsr")

    assert (code, "BROKEN" in printed) == (0, False)
    assert "bsr keeps every promise that can be checked without knowing its purpose" in printed
    assert "the method's own tests must compare these" in printed
    assert "- which tokens are dropped: the checks test how many are dropped" in printed
    assert "- which parameters train" in printed


def test_check_says_of_every_kind_what_it_does_not_see(typed):
    """Each line is for one kind of change; a method gets those of its own kinds."""
    assert set(Kind) == set(UNSEEN)
    assert "- which tokens are dropped" not in typed("check", "head")[1]


OLD_IMPORTS = """
from dataclasses import dataclass

import methods
from harness import vit
from harness.method import Method
from methods.parts.freeze import train_only
"""


@pytest.mark.parametrize("folder", [".", str(ROOT)])  # an old name may be found there
def test_an_import_of_an_old_name_is_answered_with_the_new_one(
    folder, typed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path if folder == "." else folder)
    monkeypatch.syspath_prepend(folder)
    (tmp_path / "mine.py").write_text(OLD_IMPORTS)
    code, printed = typed("check", f"{tmp_path / 'mine.py'}:Mine")

    assert code == 2
    assert "line 4: methods is called bsrbench.methods; " in printed
    assert "line 5: harness.vit is called bsrbench.harness.model.vit; " in printed
    assert "line 6: harness.method is called bsrbench.harness.method; " in printed
    assert "methods.parts.freeze is called bsrbench.methods.parts.trained_parameters" in printed


def test_every_new_name_is_a_module_and_stands_on_the_page():
    page = (ROOT / "docs" / "how-to" / "migrate.md").read_text()

    for old, new in renamed_modules.NEW_NAMES.items():
        assert importlib.util.find_spec(new), new
        assert f"| `{old}` | `{new}` |" in page
