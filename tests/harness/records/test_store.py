"""Records are whole or absent, and a bad one is named and set aside."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_decoder import decode_record
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.record_validation import NEW_METRIC
from bsrbench.harness.records.schema_upgrade import upgrade
from bsrbench.harness.records.sidecar import NO_SIDECAR, Sidecar
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.records.trial_record import (
    SCHEMA_VERSION,
    Outcome,
    Status,
    plain_record,
)
from tests.trial_records import trial_record


@pytest.fixture
def make_record(make_spec):
    def make(name="a", finished_at="2026-01-01T00:00:00+00:00", machine="m", **spec):
        asked = make_spec(**spec)
        return trial_record(
            key=f"{name}-{asked.trial_id()}-source-{machine}",
            spec=asked,
            outcome=Outcome(status=Status.COMPLETED),
            measurements=dict.fromkeys(METRICS) | {"step_flop": 12},
            missing={name: "a test" for name in METRICS if name != "step_flop"},
            environment={"machine_id": machine},
            finished_at=finished_at,
        )

    return make


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results")
    store.open_for_writing()
    return store


def test_a_record_survives_the_store(store, make_record):
    record = make_record()
    path = store.save(record, Sidecar(losses=(1.0,)))

    assert store.record(record.key) == record
    assert store.records() == ([record], [])
    assert json.loads((store.folder / "details" / path.name).read_text()) == {"losses": [1.0]}


def test_a_metric_without_value_needs_a_reason(make_record):
    data = plain_record(make_record())
    data["measurements"]["accuracy_top1"] = None
    del data["missing"]["accuracy_top1"]

    with pytest.raises(
        msgspec.ValidationError, match=r"no value and no reason for .*accuracy_top1"
    ):
        decode_record(json.dumps(data).encode())


MANY_AT_ONCE = """
import sys
from pathlib import Path
from bsrbench.harness.records.record_decoder import decode_record
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
records = [read_record(path) for path in sorted(Path(sys.argv[2]).iterdir())][:10]
store = Store(Path(sys.argv[1]))
for _ in range(5):
    for record in records:
        store.open_for_writing()
        store.staged(record.key, "memory")
        store.stage(record.key, "memory", {"status": "completed"})
        store.note_progress({"state": "running", "pid": 1, "host": "here", "at": 1.0})
        store.save(record, Sidecar(losses=(1.0,)))
        assert store.record(record.key) == record
        assert store.detail(record.key) == Sidecar(losses=(1.0,))
        assert store.progress()["state"] == "running"
    found, aside = store.records()
    assert found and not aside, aside
"""


def test_several_processes_may_write_into_one_folder_at_once(store):
    """Each writes the same records again and again, and always finds whole ones."""
    root = Path(__file__).resolve().parents[3]
    source = root / "results" / "quick" / "records"
    command = [sys.executable, "-c", MANY_AT_ONCE, store.folder, source]
    started = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE) for _ in range(4)]
    said = [one.communicate()[1].decode() for one in started]
    expected = [read_record(path).key for path in sorted(source.iterdir())][:10]

    assert said == [""] * 4
    assert sorted(record.key for record in store.records()[0]) == sorted(expected)
    left = [path.name for path in (store.folder / ".staged").iterdir()]
    assert left == ["progress.run"]


def test_a_staged_pass_that_was_changed_by_hand_is_named(store):
    (store.folder / ".staged" / "a.memory.json").write_text("{")

    with pytest.raises(BadInput, match=r"a\.memory\.json: not readable .* remove it"):
        store.staged("a", "memory")


def test_half_a_record_is_named_and_the_rest_goes_on(store, make_record):
    path = store.save(make_record("whole"))
    broken = path.with_name("half.json")
    broken.write_text(path.read_text()[:100])
    good, aside = store.records()

    assert [record.key.split("-")[0] for record in good] == ["whole"]
    assert len(aside) == 1
    assert "half.json" in aside[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99}', "\x00"])
def test_what_is_not_a_record_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)

    with pytest.raises(BadInput, match=r"odd\.json"):
        read_record(path)


def test_a_write_that_fails_leaves_the_old_file(store, make_record, monkeypatch):
    path = store.save(make_record())
    before = path.read_text()
    monkeypatch.setattr("os.fsync", _disk_full)

    with pytest.raises(BadInput, match="left on device; everything stored before is intact"):
        store.save(make_record(finished_at="2026-02-02T00:00:00+00:00"))
    assert before == path.read_text()
    assert [path.name] == [p.name for p in path.parent.iterdir()]


def _disk_full(_):
    raise OSError(28, "No space left on device")


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(BadInput, match="choose another folder with --results"):
        Store(tmp_path / "file" / "results").open_for_writing()


def test_records_can_be_read_by_others(store, make_record):
    path = store.save(make_record())

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_newest_record_of_a_trial_and_machine_counts(make_record):
    old, new = make_record("old", "2026-01-01"), make_record("new", "2026-01-02")
    elsewhere = make_record("elsewhere", "2026-01-01", machine="n")
    other = make_record("other", "2026-01-01", method="bsr")

    names = {record.key.split("-")[0] for record in latest([old, new, elsewhere, other])}
    assert names == {"new", "elsewhere", "other"}


def test_staged_passes_go_when_the_record_is_saved(store, make_record):
    record = make_record()
    store.stage(record.key, "memory", {"status": "completed"})
    kept = store.staged(record.key, "memory")
    store.save(record)

    assert kept == {"status": "completed"}
    assert store.staged(record.key, "memory") is None


GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_records_of_every_schema_version_are_read(path):
    """What was measured stays; what was not known then says so."""
    stored = json.loads(path.read_text())
    record = read_record(path)

    assert record.schema_version == SCHEMA_VERSION
    for name, value in stored["measurements"].items():
        assert record.measurements[name] == value
    for name in set(METRICS) - set(stored["measurements"]):
        assert record.missing[name] == NEW_METRIC


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*-[2-7].json")), ids=lambda path: path.stem)
def test_an_old_trial_keeps_its_id_though_the_spec_has_more_keys(path):
    """The id stands in the record's key; a run must find what is stored."""
    record = read_record(path)
    workload = record.spec.workload

    assert record.key.split("-")[1] == record.spec.trial_id()
    assert (workload.compiled_step, workload.optimizer_in_backward) == (False, False)


def test_what_an_old_record_calls_settings_only_disturbed_times():
    """It kept a few variables that somebody had thought of; settings it does not state."""
    data = json.loads((GOLDEN / "profile-schema-4.json").read_text())
    data["environment"]["settings"] = {"OMP_NUM_THREADS": "1"}
    upgraded = upgrade(data)

    assert upgraded["circumstances"]["variables"] == {"OMP_NUM_THREADS": "1"}
    assert "settings" not in upgraded["environment"]
    assert data["environment"]["settings"] == {"OMP_NUM_THREADS": "1"}  # not changed in place


def test_a_record_keeps_the_times_of_rows_timed_beside_it_and_when_it_began():
    """A real one: head, added to a suite in turns with full and bsr; two rounds of two steps."""
    path = GOLDEN / "profile-schema-7.json"
    stored, record = json.loads(path.read_text()), read_record(path)

    assert record.beside == stored["beside"]
    assert sorted(key.split("-")[0] for key in record.beside) == ["bsr", "full"]
    assert {len(times["step_seconds"]) for times in record.beside.values()} == {4}
    assert record.began_at == stored["began_at"]
    assert record.began_at < record.finished_at


def test_a_record_of_a_newer_program_is_set_aside_by_name(store, make_record):
    path = store.save(make_record())
    path.write_text(
        path.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99')
    )

    with pytest.raises(
        BadInput, match=f"schema version 99; this program reads 1 to {SCHEMA_VERSION}"
    ):
        read_record(path)


def test_the_reserve_of_an_old_cuda_record_gets_its_name():
    old = json.loads((GOLDEN / "profile-schema-1.json").read_text())
    old["spec"]["workload"]["device"] = "cuda:0"
    new = upgrade(old)

    assert new["measurements"]["peak_reserved_bytes"] == old["measurements"]["peak_process_bytes"]
    assert new["measurements"]["peak_process_bytes"] is None


def test_a_sidecar_is_read_back_or_empty(store, make_record):
    record = make_record()
    store.save(record, Sidecar(losses=(1.0,)))

    assert store.detail(record.key) == Sidecar(losses=(1.0,))
    assert store.detail("b") == NO_SIDECAR
