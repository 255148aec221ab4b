"""The index of a large results folder says what its files say, or nothing."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from bsrbench.harness.records import record_files, record_index
from bsrbench.harness.records.store import Store

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/records"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record_files, "MANY", 2)
    monkeypatch.setattr(record_files, "CHUNK", 1)
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "results" / "records"
    shutil.copytree(ROOT / "results" / "late" / "records", folder)
    return Store(folder.parent)


@pytest.fixture
def reads(monkeypatch):
    """Which files were really read."""
    read = []
    really = record_files._read

    def note(path):
        read.append(Path(path).name)
        return really(path)

    monkeypatch.setattr(record_files, "_read", note)
    return read


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """No program can set when a file was changed: let now be an hour later."""
    really = time.time
    monkeypatch.setattr(record_index.time, "time", lambda: really() + 3600)
    monkeypatch.setattr(record_files.gc, "freeze", lambda: None)


def index_of(store):
    return record_index._place(store.folder / "records")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_index_of_every_committed_folder_says_what_its_records_say(folder, tmp_path):
    copied = Store(tmp_path / "copy")
    shutil.copytree(folder / "records", copied.folder / "records")
    found, _ = copied.records()
    known = record_index.load(copied.folder / "records")

    assert len(known) == len(found) > 0
    for record in found:
        _, same = known[f"{record.key}.json"]
        assert same == record
        assert same.model_dump_json() == record.model_dump_json()
        assert same.spec.trial_id() == record.spec.trial_id()


def test_the_index_says_what_a_record_holds_of_other_rows(tmp_path):
    store = Store(tmp_path / "golden")
    shutil.copytree(ROOT / "tests" / "golden", store.folder / "records")
    found, _ = store.records()
    known = {
        record.key: record for _, record in record_index.load(store.folder / "records").values()
    }

    assert any(record.beside for record in found)
    assert all(known[record.key] == record for record in found)


def test_what_is_known_is_not_read_again(store, reads):
    first = store.records()
    read = len(reads)

    assert store.records() == first
    assert len(reads) == read == len(first[0])


def test_a_file_that_has_changed_is_read_again(store, reads):
    before, _ = store.records()
    changed, removed, *_ = sorted((store.folder / "records").glob("*.json"))
    data = json.loads(changed.read_text()) | {"notes": ["by hand"]}
    changed.write_text(json.dumps(data))
    later = time.time() + 3600  # however long this test is kept waiting
    os.utime(changed, (later, later))
    removed.unlink()
    reads.clear()
    after, _ = store.records()

    assert reads == [changed.name]
    assert ["by hand"] in [record.notes for record in after]
    assert len(after) == len(before) - 1
    reads.clear()
    assert store.records()[0] == after
    assert reads == [changed.name]  # it may change again within the same moment


def test_a_file_that_is_no_record_stays_aside(store):
    (store.folder / "records" / "strange.json").write_text("{")

    assert [len(store.records()[1]) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("way", ["in place", "another file", "made anew"])
def test_a_file_with_the_same_size_and_time_is_read(way, store, reads):
    """As 'cp -p' and archives leave them; a file made anew may even get the inode."""
    store.records()
    path = min((store.folder / "records").glob("*.json"))
    about, text = path.stat(), path.read_text()
    other = path.with_suffix(".other") if way == "another file" else path
    if way == "made anew":
        path.unlink()
    other.write_text(text.replace('"commit": "', '"commit": "f')[: about.st_size])
    os.utime(other, ns=(about.st_mtime_ns, about.st_mtime_ns))
    other.replace(path)
    reads.clear()
    store.records()

    assert reads == [path.name]


def test_a_link_to_nothing_is_set_aside(store):
    (store.folder / "records" / "gone.json").symlink_to("nowhere")
    (reason,) = store.records()[1]

    assert "gone.json: not a readable record" in reason


@pytest.mark.parametrize(
    "harm",
    [
        lambda _: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b'"seeds"', b'"sneed"').replace(b"0.5", b"0.6"),
        lambda _: b"{}\n{}",
        lambda whole: whole.split(b"\n")[0],
        lambda whole: whole.replace(b'"by":"', b'"by":"0'),
        lambda whole: b"\xff" + whole,
    ],
)
def test_a_damaged_index_is_no_index(harm, store, reads):
    first = store.records()
    index = index_of(store)
    index.write_bytes(harm(index.read_bytes()))
    reads.clear()

    assert store.records() == first
    assert len(reads) == len(first[0])
    reads.clear()
    assert store.records() == first
    assert not reads  # it was made again


def test_the_index_of_another_folder_is_not_taken(store, tmp_path, reads):
    store.records()
    copied = Store(tmp_path / "other")
    shutil.copytree(store.folder, copied.folder)
    record_index._place(copied.folder / "records").write_bytes(index_of(store).read_bytes())
    reads.clear()
    copied.records()

    assert len(reads) == len(list((copied.folder / "records").iterdir()))


def test_without_a_cache_everything_is_read(store, cache, reads):
    cache.write_text("a file where the folder should be")

    first = store.records()

    assert store.records() == first
    assert len(reads) == 2 * len(first[0])


def test_the_index_of_a_folder_that_is_gone_goes_too(store, tmp_path):
    gone = Store(tmp_path / "gone")
    shutil.copytree(store.folder, gone.folder)
    gone.records()
    lost = index_of(gone)
    assert lost.exists()
    shutil.rmtree(gone.folder)
    store.records()

    assert not lost.exists()
    assert index_of(store).exists()
