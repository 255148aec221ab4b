"""torchvision's data sets, each on a small archive of the real format, whole and damaged."""

import io
import json
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5, extract_archive

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload import data
from bsrbench.harness.workload.data import published

SIDE = 8


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No test may reach a network, nor wait for one."""

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((SIDE, SIDE, 3), dtype=np.uint8)).save(path)


def write_cifar(monkeypatch, root, made, folder, files, classes, key, meta_key):
    """Write batches as torchvision reads them; it knows the real ones by their hashes."""
    place = root / folder
    place.mkdir()
    known = {}
    for name, count in files.items():
        labels = [i % classes for i in range(count)]
        images = np.arange(count, dtype=np.uint8)[:, None].repeat(3072, axis=1)
        (place / name).write_bytes(pickle.dumps({"data": images, key: labels}))
        known[name] = calculate_md5(str(place / name))
    names = {meta_key: [f"class {i}" for i in range(classes)]}
    (place / made.meta["filename"]).write_bytes(pickle.dumps(names))
    meta_md5 = calculate_md5(str(place / made.meta["filename"]))
    monkeypatch.setattr(made, "meta", made.meta | {"md5": meta_md5})
    for attribute in ("train_list", "test_list"):
        listed = [[name, known[name]] for name, _ in getattr(made, attribute)]
        monkeypatch.setattr(made, attribute, listed)


def write_cifar10(monkeypatch, root):
    files = {f"data_batch_{i}": 20 for i in range(1, 6)} | {"test_batch": 20}
    write_cifar(
        monkeypatch,
        root,
        datasets.CIFAR10,
        "cifar-10-batches-py",
        files,
        10,
        "labels",
        "label_names",
    )


def write_cifar100(monkeypatch, root):
    files = {"train": 200, "test": 100}
    write_cifar(
        *(monkeypatch, root, datasets.CIFAR100, "cifar-100-python", files),
        *(100, "fine_labels", "fine_label_names"),
    )


def write_pets(_, root):
    folder = root / "oxford-iiit-pet"
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    for part, count in (("trainval", 3), ("test", 1)):
        lines = [
            f"breed_{label:02d}_{part}{i} {label + 1} 1 1"
            for label in range(37)
            for i in range(count)
        ]
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            picture(folder / "images" / f"{line.split()[0]}.jpg")


def write_flowers(monkeypatch, root):
    folder = root / "flowers-102"
    for index in range(1, 307):
        picture(folder / "jpg" / f"image_{index:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": [1 + i % 102 for i in range(306)]})
    parts = ("trnid", "valid", "tstid")
    savemat(
        folder / "setid.mat",
        {part: list(range(1 + 102 * i, 103 + 102 * i)) for i, part in enumerate(parts)},
    )
    known = {
        kind: (name, calculate_md5(str(folder / name)) if kind != "image" else md5)
        for kind, (name, md5) in datasets.Flowers102._file_dict.items()
    }
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)


def write_food(_, root):
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for part, count in (("train", 3), ("test", 1)):
        listed = {
            f"dish_{label:03d}": [f"dish_{label:03d}/{part}{i}" for i in range(count)]
            for label in range(101)
        }
        (folder / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for name in (name for names in listed.values() for name in names):
            picture(folder / "images" / f"{name}.jpg")


def write_aircraft(_, root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    (folder / "images").mkdir(parents=True)
    variants = [f"plane {label:03d}" for label in range(100)]
    (folder / "variants.txt").write_text("\n".join(variants))
    for number, part in enumerate(("train", "val", "test")):
        lines = [f"{number}{label:06d} {variants[label]}" for label in range(100)]
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines))
        for line in lines:
            picture(folder / "images" / f"{line.split()[0]}.jpg")


def pack(monkeypatch, root, name):
    """Put what was written into its archives, whose hashes torchvision then knows."""
    known = published.DATA_SETS[name]
    inside = {
        "oxford-iiit-pet/images.tar.gz": ["oxford-iiit-pet/images"],
        "oxford-iiit-pet/annotations.tar.gz": ["oxford-iiit-pet/annotations"],
        "flowers-102/102flowers.tgz": ["flowers-102/jpg"],
    }
    for file in known.archives:
        if file.endswith(".mat"):
            continue
        folders = inside.get(file, [known.folder])
        with tarfile.open(root / file, "w:gz") as archive:
            for folder in folders:
                below = (root / file).parent
                archive.add(root / folder, str((root / folder).relative_to(below)))
        for folder in folders:
            shutil.rmtree(root / folder)
    md5 = {file: calculate_md5(str(root / file)) for file in known.archives}
    _tell_torchvision(monkeypatch, known.make, md5)


def _tell_torchvision(monkeypatch, made, md5):
    hashes = list(md5.values())
    if hasattr(made, "tgz_md5"):
        monkeypatch.setattr(made, "tgz_md5", hashes[0])
    if hasattr(made, "_RESOURCES"):
        urls = [url for url, _ in made._RESOURCES]
        monkeypatch.setattr(made, "_RESOURCES", tuple(zip(urls, hashes, strict=True)))
    if hasattr(made, "_file_dict"):
        files = [(kind, file) for kind, (file, _) in made._file_dict.items()]
        named = {kind: (file, md5[f"flowers-102/{file}"]) for kind, file in files}
        monkeypatch.setattr(made, "_file_dict", named)
    if hasattr(made, "_MD5"):
        monkeypatch.setattr(made, "_MD5", hashes[0])


SETS = {
    "cifar10": (write_cifar10, [90, 10, 20]),
    "cifar100": (write_cifar100, [100, 100, 100]),
    "pets": (write_pets, [74, 37, 37]),
    "flowers102": (write_flowers, [102, 102, 102]),
    "food101": (write_food, [202, 101, 101]),
    "aircraft": (write_aircraft, [100, 100, 100]),
}


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
    with pytest.raises(BadInput, match=rf"damaged, or other files .*: {file}.*; on a machine"):
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
    said = rf"lacks 1 of \d+ images: .*{IMAGES[name].rpartition('/')[2]}; remove .* and it is"

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

    with pytest.raises(BadInput, match=r"aircraft cannot be read below .*; remove .*2013b, and it"):
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
