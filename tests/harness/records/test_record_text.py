"""The quick way to read a record and the thorough one agree, and doubts go to the thorough one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records import record_content, record_files
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.record_text import fast_record
from bsrbench.harness.records.schema_upgrade import upgrade
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import SCHEMA_VERSION, TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

ROOT = Path(__file__).resolve().parents[3]


def text_of(data):
    """Return a record as the store writes it, with the hash of what it holds."""
    return record_content.text_of(data).encode()


FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/records"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_committed_record_is_read_alike_both_ways(folder):
    for path in (folder / "records").glob("*.json"):
        data = json.loads(path.read_text())
        whole = TrialRecord.model_validate_json(json.dumps(upgrade(dict(data))))
        found = fast_record(path.read_bytes())
        assert read_record(path) == whole
        assert found is None or found == whole
        assert found is None or found.model_dump_json() == whole.model_dump_json()
        assert (found is not None) == (data["schema_version"] == SCHEMA_VERSION)


@pytest.mark.parametrize("kind", ["profile", "training"])
def test_a_golden_record_of_the_present_schema_is_read_quickly(kind):
    """That of the profile holds times of other rows."""
    text = (ROOT / "tests" / "golden" / f"{kind}-schema-{SCHEMA_VERSION}.json").read_bytes()
    found = fast_record(text)

    assert found == TrialRecord.model_validate_json(text)
    assert bool(found.beside) == (kind == "profile")


@pytest.fixture
def good():
    path = min((ROOT / "results" / "late" / "records").glob("*.json"))
    return upgrade(json.loads(path.read_text()))


def hashed_anew(text):
    """Return a record's text with the hash of what stands before it, where it ends as it should."""
    start, found, _ = text.rpartition(record_content.BEFORE_HASH)
    hashed = hashlib.sha256(start).hexdigest().encode()
    whole = start + found + b'"' + hashed + b'"' + record_content.END
    return whole if len(whole) == len(text) else text


def with_its_key(data):
    """Return data whose key is that of their spec."""
    spec = TrialSpec.model_validate_json(json.dumps(data["spec"]))
    key = replace(read_key(data["key"]), trial=spec.trial_id())
    return data | {"key": str(key)}


def put(place, value):
    *parents, last = place

    def change(data):
        inner = data
        for name in parents:
            inner = inner[name]
        inner[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(("schema_version",), 3),
        put(("strange",), 1),
        put(("key",), 7),
        put(("finished_at",), None),
        put(("began_at",), 7),
        put(("beside",), []),
        put(("beside",), {"other-key": {"step_seconds": ["a"]}}),
        put(("beside",), {"other-key": {"step_seconds": 1.0}}),
        put(("beside",), {"other-key": {"strange": [1.0]}}),
        put(("notes",), [1]),
        put(("notes",), "a"),
        put(("missing", "step_flop"), 7),
        put(("measurements", "step_flop"), "many"),
        put(("measurements", "step_flop"), True),
        put(("measurements", "step_seconds"), [1, 2.5]),
        put(("measurements", "step_seconds"), [1.0, "a"]),
        put(("measurements", "strange"), 1.0),
        put(("measurements", "peak_counted_bytes"), None),
        put(("environment",), []),
        put(("spec", "seed"), -1),
        put(("spec", "seed"), "1"),
        put(("spec", "seed"), True),
        put(("spec", "strange"), 1),
        put(("spec", "workload", "batch"), 0),
        put(("spec",), None),
        put(("outcome", "status"), "fine"),
        put(("outcome",), None),
    ],
)
def test_any_doubt_is_left_to_validation(change, good):
    good["missing"] = {k: v for k, v in good["missing"].items() if k != "peak_counted_bytes"}
    good["measurements"]["peak_counted_bytes"] = 1
    assert fast_record(text_of(good)) is not None
    change(good)

    assert fast_record(text_of(good)) is None


BEFORE_NOTES, BEFORE_SEED = b',\n "notes": ', b',\n  "seed": '


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b""),
        (b"{\n", b"{ \n"),
        (b"\n}\n", b"\n}"),
        (b"\n}\n", b"\n}\n}\n"),
        (BEFORE_NOTES, b',\n "notes": []' + BEFORE_NOTES),
        (BEFORE_NOTES, b',\n "extra": 1' + BEFORE_NOTES),
        (b"\n },\n" + BEFORE_NOTES[2:], b",\n" + BEFORE_NOTES[2:]),
        (BEFORE_SEED, BEFORE_SEED + b"3" + BEFORE_SEED),
        (BEFORE_SEED, b',\n  "seeds": '),
        (b'{\n  "machine_id": ', b'{\n  "machine_id": 7,\n  "machine_id": '),
        (b'{\n  "machine_id": ', b'{\n  machine_id": '),
        (b'"machine_id": ', b'"machine": '),
        (b',\n "finished_at": ', b',,\n "finished_at": '),
    ],
)
def test_text_that_the_store_would_not_write_is_left_to_validation(old, new, good, tmp_path):
    text = text_of(good)
    assert text.count(old) >= 1
    assert fast_record(text) is not None
    path = tmp_path / "other.json"
    path.write_bytes(hashed_anew(text.replace(old, new)))

    assert fast_record(path.read_bytes()) is None
    assert read_or_refused(path) in (TrialRecord.model_validate_json(text), "refused")


def read_or_refused(path):
    """Return what a record says, whether its hash is that of its content or of its text."""
    try:
        found = read_record(path)
        notes = [note for note in found.notes if note != record_content.CHANGED]
        return found.model_copy(update={"notes": notes})
    except BadInput:
        return "refused"


def test_words_that_look_like_keys_are_words(good):
    good["notes"] = ['\n "missing": {}', ',\n  "seed": 7', "}"]
    good["spec"]["options"] = {'\n  "workload": ': {"seed": 7, "x": {"key": 1}}}
    good["environment"]["method"] = {"machine_id": {"a": [1, {"b": '\n  "c": 1'}]}}
    good = with_its_key(good)

    assert fast_record(text_of(good)) == TrialRecord.model_validate_json(json.dumps(good))


def test_records_that_differ_in_seed_share_what_was_validated(good):
    found = []
    for seed in (0, 1, 2):
        good["spec"]["seed"] = seed
        found.append(fast_record(text_of(with_its_key(good))))

    assert [record.spec.seed for record in found] == [0, 1, 2]
    assert len({record.spec.trial_id() for record in found}) == 3
    assert found[0].spec.workload is found[2].spec.workload
    assert found[1].spec == found[1].spec.model_copy()


def test_many_records_are_read_by_several_processes_alike(monkeypatch, tmp_path):
    folder = ROOT / "results" / "late"
    one = Store(folder).records()
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path))  # where there is no index yet
    monkeypatch.setattr(record_files.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(record_files, "MANY", 3)
    monkeypatch.setattr(record_files, "CHUNK", 7)
    monkeypatch.delitem(__import__("sys").modules, "torch")

    assert Store(folder).records() == one
