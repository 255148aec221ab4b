"""Results folders that were damaged, left half written, or made on several machines."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.record_content import text_of
from bsrbench.harness.records.results_maintenance import IN_FLIGHT_SECONDS, examine, repair
from bsrbench.harness.records.results_merge import merge
from bsrbench.harness.records.store import Store, gather
from bsrbench.harness.spec.trial_spec import Profile

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = sorted(path.parent for path in (ROOT / "results").glob("*/records"))


@pytest.fixture
def folder(tmp_path):
    """Return a copy of a committed results folder."""
    place = tmp_path / "one"
    for name in ("records", "details"):
        shutil.copytree(ROOT / "results" / "quick" / name, place / name)
    return place


def first(folder, name="records"):
    return min((folder / name).glob("*.json"))


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda path: path.name)
def test_the_committed_folders_are_as_they_should_be(committed):
    assert examine(committed) == []


def halve(path):
    path.write_text(path.read_text()[:100])


def change_spec(path):
    data = json.loads(path.read_text())
    data["spec"]["workload"]["batch"] += 1
    path.write_text(json.dumps(data, indent=1))


def misname(path):
    path.rename(path.with_name("mine.json"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (halve, "not a readable record"),
        (lambda path: path.write_text("[]"), "not a record"),
        (lambda path: path.write_text("{}"), "schema version None"),
        (change_spec, "its key does not match its spec"),
        (misname, "the file's name differs from the record's key"),
    ],
    ids=["half", "no object", "empty", "spec changed", "misnamed"],
)
def test_a_damaged_record_is_found_and_put_aside(damage, said, folder):
    before = len(Store(folder).records()[0])
    damage(first(folder))
    found = examine(folder)
    repair(folder)

    assert said in found[0].what
    assert examine(folder) == []
    kept = len(Store(folder).records()[0]) + len(list((folder / "aside").glob("[!s]*.json")))
    assert kept == before


def test_a_misnamed_record_gets_its_name_back(folder):
    path = first(folder)
    misname(path)
    (trouble,) = (found for found in repair(folder) if "name" in found.what)

    assert trouble.target == path
    assert path.exists()
    assert (folder / "details" / path.name).exists()


def test_a_record_that_is_there_twice_is_put_aside(folder):
    shutil.copy(first(folder), folder / "records" / "copy.json")
    repair(folder)

    assert [path.name for path in (folder / "aside").iterdir()] == ["copy.json"]


def test_a_sidecar_that_is_damaged_or_alone_is_put_aside(folder):
    halve(first(folder, "details"))
    (folder / "details" / "nobody.json").write_text("{}")
    found = [trouble.what for trouble in examine(folder)]

    assert "not readable (unexpected end" in found[0]
    assert "without a record" in found[1]
    repair(folder)
    assert examine(folder) == []
    assert len(list((folder / "aside").glob("sidecar-*"))) == 2


def test_half_a_file_is_removed_once_nobody_can_be_writing_it(folder):
    young, old = folder / "records" / ".a.json.x", folder / "details" / ".b.json.y"
    for path in (young, old):
        path.write_text("{")
    now = time.time()
    os.utime(young, (now + 3600,) * 2)  # however long this test is kept waiting
    os.utime(old, (now - IN_FLIGHT_SECONDS - 1,) * 2)
    repair(folder)

    assert young.exists()
    assert not old.exists()


def test_a_folder_of_something_else_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="expected a results folder"):
        examine(tmp_path)


def test_folders_are_merged_with_their_sidecars(folder, tmp_path):
    other = ROOT / "results" / "memory"
    done = merge(tmp_path / "all", [folder, other, folder])
    pool = gather([tmp_path / "all"])

    assert len(done.copied) == len(pool.records)
    assert done.same == len(gather([folder]).records)
    assert len(pool.records) == len(gather([folder]).records) + len(gather([other]).records)
    assert len(list((tmp_path / "all" / "details").iterdir())) == sum(
        len(list((place / "details").iterdir())) for place in (folder, other)
    )
    assert examine(tmp_path / "all") == []


def test_a_conflict_is_named_and_changes_nothing(folder, tmp_path):
    into = tmp_path / "two"
    shutil.copytree(folder, into)
    path = next(
        path for path in (into / "records").glob("*.json") if '"step_flop": ' in path.read_text()
    )
    data = json.loads(path.read_text())
    data["measurements"]["step_flop"] = 7
    path.write_text(json.dumps(data, indent=1))
    text = path.read_text()
    done = merge(into, [folder])

    assert len(done.conflicts) == 1
    assert path.stem in done.conflicts[0]
    assert re.search(r"differ in (notes, )?step_flop", done.conflicts[0])  # a note compares it
    assert path.read_text() == text


def test_what_cannot_be_read_is_left_out_of_a_merge(folder, tmp_path, typed):
    halve(first(folder))
    code, said = typed("results", "merge", tmp_path / "all", folder)

    assert code == 1
    assert "not copied: " in said
    assert len(gather([tmp_path / "all"]).records) == len(Store(folder).records()[0])


def test_the_commands_say_what_they_find_and_do(folder, typed):
    assert typed("results", "check", folder)[0] == 0
    halve(first(folder))
    code, said = typed("results", "check", folder)

    assert code == 1
    assert "bsrbench results repair" in said
    assert "aside" in typed("results", "repair", folder)[1]
    assert typed("results", "check", folder)[0] == 0


@pytest.fixture
def measured(tmp_path, make_spec):
    """Return a folder with one record, made now."""
    store = Store(tmp_path / "made")
    runner = Runner(
        InlineLauncher(methods.load),
        store,
        methods.fingerprint,
        Quiet(),
        RunSettings(announces=False),
    )
    runner.run([make_spec(profile=Profile(rounds=0, only_predict=True))])
    return store.folder


def put(path, table, name, value):
    """Change one value of a record's environment by hand."""
    data = json.loads(path.read_text())
    place = data["environment"][table] if table else data["environment"]
    place[name] = value
    path.write_text(text_of(data))


@pytest.mark.parametrize(
    ("table", "name", "value", "what"),
    [
        ("settings", "TIMM_FUSED_ATTN", "0", "settings and versions"),
        ("versions", "torch", "1.0", "settings and versions"),
        ("", "machine_id", "deadbeef", "machine"),
    ],
)
def test_a_key_that_does_not_fit_what_its_record_states_is_found(
    table, name, value, what, measured
):
    assert examine(measured) == []
    put(first(measured), table, name, value)

    assert examine(measured)[0].what == (
        f"its key does not match its {what}: one of them was changed"
    )


def test_versions_that_decide_nothing_may_be_anything(measured):
    put(first(measured), "versions", "python", "9")

    assert examine(measured) == []
