"""torchvision's data sets, each on a small archive of the real format, whole and damaged."""

import io
import json
import pickle
import tarfile

import pytest
import torch
from torchvision import datasets
from torchvision.datasets.utils import extract_archive

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload import data
from bsrbench.harness.workload.data import published
from tests.harness.workload.small_archives import SETS, pack, picture, write_aircraft, write_food


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No test may reach a network, nor wait for one."""

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)


@pytest.mark.parametrize("name", SETS)
def test_a_published_data_set_is_unpacked_and_read(name, data_root, monkeypatch):
    """Without a network, from archives that a person has put there."""
    write, counts = SETS[name]
    write(monkeypatch, data_root)
    pack(monkeypatch, data_root, name)
    data.fetch(name)
    found = data.load(name, None, 0)
    splits = found.train, found.validation, found.test

    assert [len(split.labels) for split in splits] == counts
    assert data.classes(name, None) == published.DATA_SETS[name].classes
    assert all(split.image(0).dtype == torch.uint8 for split in splits)
    assert all(split.image(0).shape[0] == 3 for split in splits)
    assert (found.facts["name"], found.notes) == (name, ())


@pytest.mark.parametrize("name", SETS)
def test_offline_the_folder_to_fill_and_the_files_are_named(name, data_root):
    with pytest.raises(BadInput, match=rf"{name} is not below .*data and cannot be") as said:
        data.fetch(name)

    assert all(file in str(said.value) for file in published.DATA_SETS[name].archives)
    assert "damaged" not in str(said.value)


@pytest.mark.parametrize("name", SETS)
def test_a_truncated_archive_is_named_and_never_taken_for_the_data(name, data_root, monkeypatch):
    write, _ = SETS[name]
    write(monkeypatch, data_root)
    pack(monkeypatch, data_root, name)
    file = next(iter(published.DATA_SETS[name].archives))
    whole = (data_root / file).read_bytes()
    (data_root / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=rf"damaged or are not the .*: {file}.*; on a machine"):
        data.fetch(name)

    with pytest.raises(BadInput, match=rf"{name} (is not|cannot be read) below"):
        data.fetch(name)  # whatever the first attempt has left behind


IMAGES = {
    "pets": "oxford-iiit-pet/images/breed_03_trainval1.jpg",
    "flowers102": "flowers-102/jpg/image_00007.jpg",
    "food101": "food-101/images/dish_003/train1.jpg",
    "aircraft": "fgvc-aircraft-2013b/data/images/0000003.jpg",
}


@pytest.mark.parametrize("name", ["pets", "food101"])
def test_published_images_that_do_not_decode_are_left_out_named_and_counted(
    name, data_root, monkeypatch
):
    write, (train, validation, test) = SETS[name]
    write(monkeypatch, data_root)
    broken = data_root / IMAGES[name]
    broken.write_bytes(broken.read_bytes()[:200])
    found = data.load(name, None, 0)
    counts = [len(split.labels) for split in (found.train, found.validation, found.test)]
    below = broken.relative_to(data_root / published.DATA_SETS[name].folder)
    count = train + validation + test

    assert counts == [train - 1, validation, test]
    assert found.notes == (f"1 of {count} images do not decode and were left out: {below}",)
    assert found.facts["left_out"] == [str(below)]


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_are_listed_and_not_there_are_named(name, data_root, monkeypatch):
    """An archive that was half unpacked when a machine stopped, say."""
    write, _ = SETS[name]
    write(monkeypatch, data_root)
    (data_root / IMAGES[name]).unlink()
    said = rf"lacks 1 of \d+ images: .*{IMAGES[name].rpartition('/')[2]}; remove .* so that it is"

    with pytest.raises(BadInput, match=said):
        data.load(name, None, 0)


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("pets", "annotations/test.txt", "one two\n", "pets cannot be read below .*ValueError"),
        ("pets", "annotations/test.txt", "a_0 38 1 1\n", "pets, test has labels from 37 to 37"),
        ("food101", "meta/train.json", "{", "food101 cannot be read below .*JSONDecodeError"),
        ("aircraft", "data/images_variant_val.txt", "1 ufo\n", "aircraft cannot be .*KeyError"),
        ("aircraft", "data/variants.txt", None, "aircraft cannot be .*FileNotFoundError"),
    ],
)
def test_damaged_lists_are_said(name, file, content, said, data_root, monkeypatch):
    SETS[name][0](monkeypatch, data_root)
    path = data_root / published.DATA_SETS[name].folder / file
    path.unlink() if content is None else path.write_text(content)
    if name == "pets" and "labels" in said:
        picture(data_root / "oxford-iiit-pet" / "images" / "a_0.jpg")

    with pytest.raises(BadInput, match=said):
        data.load(name, None, 0)


def test_a_damaged_list_is_no_reason_to_download(data_root, monkeypatch):
    write_aircraft(monkeypatch, data_root)
    (data_root / "fgvc-aircraft-2013b" / "data" / "variants.txt").unlink()

    said = r"aircraft cannot be read below .*; remove .*2013b, so that it"
    with pytest.raises(BadInput, match=said):
        data.fetch("aircraft")


def test_a_class_that_one_list_lacks_shifts_no_labels(data_root, monkeypatch):
    """Food-101's classes are numbered by torchvision after the list at hand."""
    write_food(monkeypatch, data_root)
    path = data_root / "food-101" / "meta" / "train.json"
    listed = json.loads(path.read_text())
    del listed["dish_000"]
    path.write_text(json.dumps(listed))

    with pytest.raises(BadInput, match="food101, train has no image of 1 classes: number 100"):
        data.load("food101", None, 0)


def test_a_changed_pickle_of_cifar_is_never_opened(data_root):
    """Only files with the published hashes are unpickled."""
    folder = data_root / "cifar-10-batches-py"
    folder.mkdir()
    for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": io.BytesIO(b"anything")}))

    with pytest.raises(BadInput, match=r"cifar10 cannot be read below .*not found or corrupted"):
        data.load("cifar10", None, 0)


@pytest.mark.parametrize("name", ["../outside", "link"])
def test_no_archive_writes_outside_its_folder(name, data_root):
    member = tarfile.TarInfo(name)
    if name == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "../outside"
    with tarfile.open(data_root / "evil.tar", "w") as archive:
        archive.addfile(member)
    with published.archives_that_stay_inside(), pytest.raises(tarfile.FilterError):
        extract_archive(str(data_root / "evil.tar"), str(data_root / "inside"))

    assert not (data_root / "outside").exists()
    assert tarfile.TarFile.extraction_filter is None
