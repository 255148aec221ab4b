"""What is installed is the whole program, and works from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("harness", "methods", "reports", "suites")


MAKE_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def done(*words, folder):
    """Run Python in a folder; it must end well."""
    made = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def unpacked(folder, *, from_sdist=False):
    """Return a folder into which the wheel was unpacked."""
    source = folder / "source"
    source.mkdir()
    for name in (*SHIPPED, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "bsrbench", source / "bsrbench", symlinks=True)
    if from_sdist:
        done("-c", MAKE_SDIST, folder, folder=source)
        (source,) = folder.glob("*.tar.gz")
    quietly = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    done("-m", "pip", "wheel", source, *quietly, folder=folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return unpacked(tmp_path_factory.mktemp("wheel"))


def files_of(package):
    return {
        f"{name}/{path.relative_to(package / name).as_posix()}"
        for name in SHIPPED
        for path in (package / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_file_of_the_program_is_in_the_wheel(installed):
    assert files_of(installed / "bsrbench") == files_of(ROOT)


def test_the_wheel_owns_one_name(installed):
    owned = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}

    assert owned == {"bsrbench"}


def test_nothing_in_the_wheel_is_a_link(installed):
    assert not [path for path in installed.rglob("*") if path.is_symlink()]


def test_the_wheel_of_the_sdist_is_the_same(installed, tmp_path):
    """So what holds of the one holds of the other."""
    expected, found = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        for folder in (installed, unpacked(tmp_path, from_sdist=True))
    )

    assert expected == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "suites"), "quick: "),
        (("list", "methods"), "bsr"),
        (("new-method", "mine"), "bsrbench check mine.py:Mine"),
        (("estimate", "--model", "test_vit", "--method", "head", "--batch", "1"), "peak_estimated"),
    ],
)
def test_it_works_from_an_empty_folder(installed, tmp_path, arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "bsrbench", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert said in done.stdout


FOREIGN = """
import sys
from pathlib import Path

import harness
import methods
import reports
import results

HERE = Path(__file__).resolve().parent
LOADED = sorted({"torch", "pydantic", "numpy"} & set(sys.modules))


def test_packages_are_this_projects_own():
    for package in (harness, methods, reports, results):
        assert Path(package.__file__).resolve().is_relative_to(HERE)
    assert methods.OWN == "methods"


def test_the_plugin_has_loaded_nothing_heavy():
    assert LOADED == []


def test_the_fixture_measures(bsrbench):
    result = bsrbench("head", model="test_vit", image_size=64, batch=4, classes=5, rounds=3)
    assert result.measurements["peak_counted_bytes"] > 0
"""


@pytest.mark.parametrize("command", [["pytest"], ["-m", "pytest"]])
def test_a_project_with_packages_of_the_same_names_keeps_its_own(installed, tmp_path, command):
    for name in ("harness", "methods", "reports", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWN = {name!r}\n")
    (tmp_path / "conftest.py").write_text("")  # puts the project's root on the path
    (tmp_path / "test_own.py").write_text(FOREIGN)
    if command == ["pytest"]:
        command = [str(Path(sys.executable).with_name("pytest"))]
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, *command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env=settings | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert "3 passed" in run.stdout
