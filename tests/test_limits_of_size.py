"""STYLE.md limits how long functions and files are; ruff checks how complex they are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("bsrbench", "harness", "methods", "reports", "tests", "docs", ".ci")
LONGEST_FUNCTION, LONGEST_FILE = 50, 300  # lines; a function's docstring is counted as well


def files(root):
    """Return the Python files below the folders; the links in bsrbench/ are not followed."""
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def long_files(root):
    """Return the files that are too long, each with its number of lines."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files(root)}
    return {
        path.relative_to(root).as_posix(): count
        for path, count in lines.items()
        if count > LONGEST_FILE
    }


def long_functions(root):
    """Return the functions that are too long, each with its number of lines."""
    functions = (
        (path, node)
        for path in files(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lines = {
        f"{path.relative_to(root).as_posix()}:{node.lineno} {node.name}": _lines(node)
        for path, node in functions
    }
    return {name: count for name, count in lines.items() if count > LONGEST_FUNCTION}


def _lines(node):
    return node.end_lineno - node.lineno + 1


def test_every_folder_has_files_to_check():
    empty = [folder for folder in FOLDERS if not list((ROOT / folder).rglob("*.py"))]

    assert empty == []


def test_no_file_is_longer_than_the_limit():
    assert long_files(ROOT) == {}


def test_no_function_is_longer_than_the_limit():
    assert long_functions(ROOT) == {}


@pytest.mark.parametrize(("lines", "too_long"), [(50, False), (51, True)])
def test_a_function_is_measured_from_its_name_to_its_last_line(lines, too_long, tmp_path):
    (tmp_path / "methods").mkdir()
    long = ["    async def inner():", *["        pass"] * (lines - 1)]
    short = ["    def inner():", "        pass"]
    (tmp_path / "methods" / "planted.py").write_text("\n".join(["class Outer:", *long, *short]))

    found = {"methods/planted.py:2 inner": lines} if too_long else {}
    assert long_functions(tmp_path) == found


@pytest.mark.parametrize(("lines", "too_long"), [(300, False), (301, True)])
def test_a_file_is_measured_by_its_lines(lines, too_long, tmp_path):
    (tmp_path / "reports" / "page").mkdir(parents=True)
    (tmp_path / "reports" / "page" / "planted.py").write_text("pass\n" * lines)

    assert long_files(tmp_path) == ({"reports/page/planted.py": lines} if too_long else {})
