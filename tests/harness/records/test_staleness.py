"""A record is stale if the source of its method, or the measuring code, has changed."""

import shutil

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records import measuring_source
from bsrbench.harness.records.staleness import (
    METHOD_CHANGED,
    MadeBy,
    changed_sources,
    shipped_fingerprint,
    stale_records,
)
from bsrbench.harness.source_files import hash_of_files, imported_modules, method_files

NAMES = methods.names()


@pytest.fixture
def copied(tmp_path):
    """Return what gives the hash of a method's source in a copy of the methods, and the copy."""
    shutil.copytree(methods.FOLDER, tmp_path / "methods")

    def hashed(*names):
        own = [tmp_path / "methods" / f"{name}.py" for name in names]
        return hash_of_files(method_files(own, tmp_path / "methods" / "parts"))

    return hashed, tmp_path / "methods"


def changed(path):
    path.write_text(f"{path.read_text()}\n# changed\n")


@pytest.mark.parametrize("name", [*NAMES, "bsr+int8"])
def test_a_shipped_method_has_the_same_hash_without_being_loaded(name):
    assert methods.fingerprint(name) == shipped_fingerprint(name)


def test_a_method_consists_of_its_file_and_the_parts_that_it_imports():
    names = {file.name for file in methods.source_files("checkpoint")}

    assert {"checkpoint.py", "extend_module.py", "random_draws.py"} <= names
    assert not {"quantise.py", "adapters.py", "pruned_tensors.cpp"} & names


def test_a_part_is_found_through_another_part_and_a_native_file_by_its_name():
    """``packed_modules`` imports ``packed_attention``; ``pruned_tensors`` names its C++ file."""
    names = {file.name for file in methods.source_files("sparse")}

    assert {"packed_modules.py", "packed_attention.py", "pruned_tensors.cpp"} <= names


@pytest.mark.parametrize("file", ["int8.py", "parts/quantise8.py"])
def test_a_change_of_what_a_method_uses_changes_it_alone(file, copied):
    hashed, folder = copied
    before = {names: hashed(*names) for names in (("int8",), ("bsr", "int8"), ("bsr",), ("lora",))}
    changed(folder / file)
    after = {names: hashed(*names) for names in before}

    assert [names for names in before if after[names] != before[names]] == [
        ("int8",),
        ("bsr", "int8"),
    ]


def test_a_change_of_a_native_file_changes_the_method_that_builds_it(copied):
    hashed, folder = copied
    before = hashed("sparse"), hashed("int8")
    with (folder / "parts" / "pruned_tensors.cpp").open("a") as file:
        file.write("// changed")

    assert hashed("sparse") != before[0]
    assert hashed("int8") == before[1]


def test_where_a_methods_own_file_lies_changes_nothing(copied, tmp_path):
    hashed, folder = copied
    for place in ("a", "z"):
        (tmp_path / place).mkdir()
        shutil.copy(folder / "prompt.py", tmp_path / place / "prompt.py")
    there = [
        hash_of_files(method_files([tmp_path / place / "prompt.py"], folder / "parts"))
        for place in ("a", "z")
    ]

    assert there == [hashed("prompt")] * 2


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_imports_of_the_harness_measures_or_carries_values(name):
    """So that a change of it makes the method's records stale, too."""
    measuring = set(measuring_source.measuring_files())
    imported = {
        m
        for file in methods.source_files(name)
        if file.suffix == ".py"
        for m in imported_modules(file)
        if m.startswith(measuring_source.PREFIX)
    }
    names = {module.removeprefix(measuring_source.PREFIX).replace(".", "/") for module in imported}
    files = {n: measuring_source.HARNESS / f"{n}.py" for n in names}
    there = {n: file for n, file in files.items() if file.is_file()}

    assert [
        n
        for n, file in there.items()
        if file not in measuring and n not in measuring_source.CARRY_VALUES
    ] == []


def test_it_is_said_which_source_has_changed():
    old = MadeBy("bsr", "s1", "m1")

    assert changed_sources(old, "s1", "m1") == []
    assert changed_sources(old, "s2", "m1") == [METHOD_CHANGED]
    assert changed_sources(old, "s1", "m2") == ["the measuring code has changed"]
    assert len(changed_sources(MadeBy("bsr", "s1", None), "s2", "m2")) == 2


def test_records_are_counted_by_reason_and_method():
    def fingerprint(method):
        if method == "mine.py":
            raise BadInput("no such method")
        return "new"

    made_by = {
        MadeBy("bsr", "new", "m"): 5,
        MadeBy("full", "new", "older"): 2,
        MadeBy("head", "new", "older"): 1,
        MadeBy("lora", "old", "m"): 4,
        MadeBy("mine.py", "x", "m"): 3,
    }

    assert stale_records(made_by, fingerprint, "m") == [
        "3 records (stale: the measuring code has changed): full 2, head 1",
        "4 records (stale: the method's source has changed): lora 4",
        "3 records (not checked: their methods do not come with bsrbench): mine.py 3",
    ]
