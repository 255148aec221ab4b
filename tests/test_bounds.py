"""The lowest versions that pyproject.toml allows are those that ``tox -e oldest`` installs."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("lora", "parquet", "ray", "test")
NEXT_TORCH = {"torch": "2.15", "torchvision": "0.30"}


def _requirements():
    extras = (PROJECT["optional-dependencies"][name] for name in EXTRAS)
    return [Requirement(r) for group in (PROJECT["dependencies"], *extras) for r in group]


def _pins():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {name: Version(version) for name, version in pins}


def _bound(requirement, operator):
    (found,) = [s.version for s in requirement.specifier if s.operator == operator]
    return Version(found)


def test_every_lower_bound_is_the_pin_of_the_oldest():
    assert _pins() == {r.name: _bound(r, ">=") for r in _requirements()}


@pytest.mark.parametrize("name", NEXT_TORCH)
def test_a_torch_that_nobody_tried_is_not_allowed(name):
    (requirement,) = [r for r in _requirements() if r.name == name]

    assert _bound(requirement, "<") == Version(NEXT_TORCH[name])


def test_only_the_extra_that_no_test_needs_is_left_out():
    assert {"docs"} == PROJECT["optional-dependencies"].keys() - {*EXTRAS}
