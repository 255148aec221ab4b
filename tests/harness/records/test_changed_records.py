"""A record that was changed after it was stored is noticed by its hash."""

import json
import shutil

from bsrbench.harness.records.record_content import CHANGED
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import gather
from tests.harness.records.golden_records import GOLDEN, PROFILE_NAME


def test_a_changed_number_is_noticed_by_check_merge_and_report(folder, typed):
    path = folder / "records" / PROFILE_NAME
    before = json.loads(path.read_text())["measurements"]["step_flop"]
    path.write_text(path.read_text().replace(f'"step_flop": {before}', '"step_flop": 7'))
    pool = gather([folder])

    assert [record.changed() for record in pool.records].count(True) == 1
    code, said = typed("results", "check", folder)
    assert code == 1
    assert said.startswith(f"{path}: {CHANGED}\n")
    code, said = typed("results", "merge", folder.parent / "into", folder)
    assert code == 1
    assert f"not copied: {path}: {CHANGED}" in said
    assert len(gather([folder.parent / "into"]).records) == 1
    (folder / "details" / PROFILE_NAME).write_text("5")
    code, said = typed("report", folder)
    assert code == 0
    assert f"details/{PROFILE_NAME}: not readable (expected a JSON object)" in said
    assert f"note: {path.stem}: {CHANGED}" in said
    assert "changed after it was stored" in (folder / "report.md").read_text()


def test_a_record_that_is_only_written_otherwise_has_not_changed(folder):
    """Indented, or on one line: numbers and their order are the same."""
    path = folder / "records" / PROFILE_NAME
    data = json.loads(path.read_text())
    for indent in (4, None):
        path.write_text(json.dumps(data, indent=indent))
        assert not read_record(path).changed()
    for name in ("content_sha256", "notes"):
        path.write_text(
            json.dumps(data | {name: None if name != "notes" else [{"kind": "other", "text": "x"}]})
        )
        assert read_record(path).changed()


def test_check_says_how_many_records_have_no_hash(folder, typed):
    shutil.copy(GOLDEN / "training-schema-5.json", folder / "records" / "old.json")
    key = read_record(folder / "records" / "old.json").key
    (folder / "records" / "old.json").rename(folder / "records" / f"{key}.json")

    code, said = typed("results", "check", folder)
    assert code == 0
    assert said.splitlines()[-2:] == [
        "1 records have no hash of their content (schema 6 and older)",
        "3 records, no damaged files",
    ]
