"""The house: rooms that can be found, and names that say one thing each."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("harness", "methods", "reports", "suites")
RIDDLES = {
    *("found", "reading", "conduct", "care", "upkeep", "numbering", "beforehand", "grouped"),
    *("owner", "slim", "fresh", "carried", "saved", "levels"),
    *("utils", "helpers", "common", "base", "misc"),
    *("Scout", "Wishes", "Launching", "Noting", "Quest", "Held", "Inside"),
}


def files():
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def classes(path):
    """Return the public classes that a file defines for others, outside any function."""
    return [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize(("folder", "most"), [("harness", 10), ("reports", 5)])
def test_few_files_lie_loose(folder, most):
    loose = {path.name for path in (ROOT / folder).glob("*.py")}

    assert len(loose) <= most


def test_no_two_files_share_a_name():
    places = defaultdict(list)
    for path in files():
        places[path.stem].append(path)

    assert [same for same in places.values() if len(same) > 1] == []


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for path in files():
        for name in classes(path):
            places[name].append(path.relative_to(ROOT).as_posix())

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_name_is_a_riddle():
    names = {path.stem for path in files()} | {name for path in files() for name in classes(path)}

    assert RIDDLES & names == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imported_by_its_own_name_says_the_one_that_it_has(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert f"'{folder}' is called 'bsrbench.{folder}'" in done.stderr.splitlines()[-1]


def test_the_package_links_to_the_folders():
    links = {
        path.name: path.readlink() for path in (ROOT / "bsrbench").iterdir() if path.is_symlink()
    }

    assert links == {folder: Path("..") / folder for folder in FOLDERS}
