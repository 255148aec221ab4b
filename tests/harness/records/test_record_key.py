"""A record's key: its text, its parts, and what of a trial's circumstances it holds."""

from pathlib import Path

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.record_key import (
    ANY_MACHINE,
    RecordKey,
    deciding_versions,
    in_file_name,
    read_key,
    require_name,
    settings_hash,
)
from bsrbench.harness.spec.recipe import Training

ROOT = Path(__file__).resolve().parents[3]
TRIAL, VERSIONS = "0123456789abcdef", {"torch": "2", "timm": "1", "numpy": "2"}


@pytest.mark.parametrize(
    "method", ["full", "bsr+int8", "my-own_py_Mine", "a-0123456789abcdef-b-c-d"]
)
@pytest.mark.parametrize("how", [("measure", "settings"), (None, None)], ids=["now", "schema 5"])
def test_a_key_is_read_as_it_was_made(method, how):
    key = RecordKey(method, TRIAL, "source", *how, "machine")

    assert read_key(str(key)) == key


def test_a_key_is_the_text_it_always_was_and_two_parts_more():
    key = RecordKey("bsr", TRIAL, "5ad0beef", "c0ffee00", "deadbeef", "3354490b")

    assert str(key) == f"bsr-{TRIAL}-5ad0beef-c0ffee00-deadbeef-3354490b"
    assert str(read_key(f"bsr-{TRIAL}-5ad0beef-3354490b")) == f"bsr-{TRIAL}-5ad0beef-3354490b"


@pytest.mark.parametrize("text", ["", "full", f"full-{TRIAL}", f"full-{TRIAL}-a", "full-0123-a-b"])
def test_what_no_record_was_ever_named_is_no_key(text):
    assert read_key(text) is None


def test_golden_records_keep_the_keys_they_have():
    keys = {
        path.stem: read_key(read_record(path).key)
        for path in sorted((ROOT / "tests" / "golden").glob("*-[1-5].json"))
    }

    assert keys["profile-schema-4"] == RecordKey(
        "bias", "d3f5c8c01a42e681", "63aa2e63", None, None, "3354490b"
    )
    assert all(key.settings is None and key.machine == "3354490b" for key in keys.values())


def test_another_machine_is_another_key_and_any_will_do():
    key = RecordKey("full", TRIAL, "s", "m", "h", "here")

    assert key.on("there") != key
    assert key.on(ANY_MACHINE) == key.on("there").on(ANY_MACHINE)


@pytest.mark.parametrize(
    ("versions", "settings"),
    [
        (VERSIONS | {"torch": "3"}, {"a": "1"}),
        (VERSIONS | {"peft": "1"}, {"a": "1"}),
        (VERSIONS, {"a": "2"}),
        (VERSIONS, {}),
        (VERSIONS, {"a": "1", "b": "1"}),
    ],
)
def test_each_version_and_setting_that_decides_makes_another_hash(versions, settings, make_spec):
    assert settings_hash(make_spec(), versions, settings) != settings_hash(
        make_spec(), VERSIONS, {"a": "1"}
    )


@pytest.mark.parametrize("name", ["bsrbench", "python", "matplotlib"])
def test_a_version_that_decides_nothing_makes_no_other_hash(name, make_spec):
    same = settings_hash(make_spec(), VERSIONS | {name: "9"}, {})

    assert same == settings_hash(make_spec(), VERSIONS, {})


def test_what_reads_images_decides_trainings_alone(make_spec):
    """A profile's batch is noise that torch draws."""
    training = make_spec(training=Training(steps=1, learning_rate=0.1))
    changed = VERSIONS | {"numpy": "3"}

    assert settings_hash(make_spec(), changed, {}) == settings_hash(make_spec(), VERSIONS, {})
    assert settings_hash(training, changed, {}) != settings_hash(training, VERSIONS, {})
    assert deciding_versions(training, VERSIONS) == {
        "torch": "2",
        "timm": "1",
        "peft": "none",
        "numpy": "2",
        **dict.fromkeys(("scikit-learn", "pillow", "torchvision"), "none"),
    }


def test_committed_records_are_read_with_the_keys_they_have():
    folders = sorted(path.parent for path in (ROOT / "results").glob("*/records"))
    keys = [path.stem for folder in folders for path in (folder / "records").glob("*.json")]

    assert len(keys) >= 644
    assert all(str(read_key(key)) == key for key in keys)


@pytest.mark.parametrize(
    "text",
    [
        f"../full-{TRIAL}-a-b",
        f"a/b-{TRIAL}-a-b",
        f".full-{TRIAL}-a-b",
        f"full-{TRIAL}-a-b\n",
        f"full\0-{TRIAL}-a-b",
        f"full*-{TRIAL}-a-b",
        f"full-{TRIAL}-a-../b",
        f"full-{TRIAL}-a-b]",
        f"{'a' * 240}-{TRIAL}-a-b",
        f"full\u202e-{TRIAL}-a-b",
        f"\ud800-{TRIAL}-a-b",
    ],
    ids=ascii,
)
def test_what_would_be_another_path_is_no_key(text):
    assert read_key(text) is None
    with pytest.raises(BadInput, match=r"cannot be a file name in a results folder"):
        require_name(text)


def test_any_method_has_a_name_that_fits_into_a_file_s():
    """A letter of four bytes, sixty times, has 240; with hashes and an ending no file takes it."""
    name = in_file_name("\U00020000" * 60)
    key = f"{name}-{TRIAL}-aaaaaaaa-bbbbbbbb-cccccccc-dddddddd"

    assert len(name) == 45
    assert require_name(key) == str(read_key(key)) == key
    assert len(f"{key}.checkpoint.pt".encode()) < 256
    assert in_file_name("mine.py:Mine") == "mine_py_Mine"
