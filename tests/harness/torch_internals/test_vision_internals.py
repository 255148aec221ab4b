"""Each unpublished part of torchvision's data sets is what this project relies on."""

import re

import pytest
from PIL import Image
from torchvision import datasets

from bsrbench.harness.torch_internals import vision_internals as internals

MD5 = re.compile(r"[0-9a-f]{32}")


def _is_archive(address):
    return address.startswith("http") and address.endswith((".tar.gz", ".tgz", ".tar"))


def test_pets_have_an_archive_of_images_and_one_of_labels():
    archives = list(internals.pets_archives())

    assert ["images.tar.gz", "annotations.tar.gz"] == [u.rpartition("/")[2] for u, _ in archives]
    assert all(_is_archive(address) and MD5.fullmatch(md5) for address, md5 in archives)


def test_flowers_have_images_labels_and_splits():
    files = dict(internals.flowers_files())

    assert {"102flowers.tgz", "imagelabels.mat", "setid.mat"} == set(files)
    assert all(map(MD5.fullmatch, files.values()))


def test_food_and_aircraft_have_one_archive_each():
    food, md5 = internals.food_archive()

    assert "food-101.tar.gz" == food.rpartition("/")[2]
    assert MD5.fullmatch(md5)
    assert "fgvc-aircraft-2013b.tar.gz" == internals.aircraft_archive().rpartition("/")[2]
    assert _is_archive(food)
    assert _is_archive(internals.aircraft_archive())


def _aircraft(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("A\nB\n")
    (folder / "images_variant_test.txt").write_text("001 B\n002 A\n")
    for name in ("001", "002"):
        Image.new("RGB", (4, 4)).save(folder / "images" / f"{name}.jpg")
    return datasets.FGVCAircraft(str(root), split="test")


def _food(root):
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "test.json").write_text('{"a": ["a/1"], "b": ["b/2"]}')
    for name in ("a/1", "b/2"):
        target = folder / "images" / f"{name}.jpg"
        target.parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(target)
    return datasets.Food101(str(root), split="test")


@pytest.mark.parametrize(
    ("opened_in", "names", "labels"),
    [(_aircraft, ["001.jpg", "002.jpg"], [1, 0]), (_food, ["1.jpg", "2.jpg"], [0, 1])],
)
def test_files_and_labels_are_listed_in_the_order_of_items(tmp_path, opened_in, names, labels):
    opened = opened_in(tmp_path)

    files = [str(file) for file in internals.listed_files(opened)]

    assert names == [file.rpartition("/")[2] for file in files]
    assert labels == internals.listed_labels(opened)
    assert labels == [label for _, label in opened]
