"""Small archives of the real format of each published data set."""

import json
import pickle
import shutil
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5

from bsrbench.harness.workload.data import published

SIDE = 8


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
