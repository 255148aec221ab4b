"""No link and no key leads a write out of a results folder."""

import shutil

import pytest

from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
from tests.harness.records.golden_records import PROFILE


@pytest.mark.parametrize("name", ["records", "details", ".staged"])
def test_nothing_is_written_into_a_folder_that_is_a_link(name, folder, outside, typed):
    shutil.rmtree(folder / name)
    (folder / name).symlink_to(outside)
    store, record = Store(folder), read_record(PROFILE)

    with pytest.raises(ValueError, match=rf"{name} is a symbolic link, expected a folder"):
        store.open_for_writing()
    with pytest.raises(ValueError, match="is a symbolic link"):
        _stage_and_save(store, record)
    store.note_progress({"state": "running"})
    if name != ".staged":
        assert typed("results", "merge", folder, folder.parent / "other")[0] == 2


def _stage_and_save(store, record):
    store.stage(record.key, "clock", {})
    store.save(record, Sidecar(losses=()))


def test_repair_moves_nothing_into_a_folder_that_is_a_link(folder, outside, typed):
    (folder / "records" / "bad.json").write_text("{}")
    (folder / "aside").symlink_to(outside)
    code, said = typed("results", "repair", folder)

    assert code == 2
    assert "aside is a symbolic link, expected a folder" in said


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(folder, outside):
    store, record = Store(folder), read_record(PROFILE)
    name = f"{record.key}.json"
    links = [
        folder / "records" / name,
        folder / "details" / name,
        folder / ".staged" / f"{record.key}.clock.json",
        folder / ".staged" / "progress.run",
    ]
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(outside / "mine.txt")
    store.stage(record.key, "clock", {})
    store.note_progress({"state": "running"})
    staged = links[2].is_symlink()
    store.save(record, Sidecar(losses=(1.0,)))

    assert not staged
    assert not any(link.is_symlink() for link in links)


def test_the_checkpoint_is_no_link_s_target(folder, outside):
    link = folder / ".staged" / "a.checkpoint.pt"
    link.symlink_to(outside / "mine.txt")

    assert Store(folder).checkpoint("a") == link.parent.resolve() / link.name


@pytest.mark.parametrize("key", ["../x", "", "a/b", "*", "a" * 300, "a\0", ".a"])
def test_no_key_becomes_a_path_unchecked(key, folder):
    store = Store(folder)
    asked = (
        store.record,
        store.detail,
        store.checkpoint,
        store.unstage,
        lambda key: store.log(key, "clock"),
        lambda key: store.staged(key, "clock"),
        lambda key: store.stage(key, "clock", {}),
    )
    for ask in asked:
        with pytest.raises(ValueError, match="cannot be a file name in a results folder"):
            ask(key)
