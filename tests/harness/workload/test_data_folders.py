"""Folders as people have them: what systems and programs leave in them is no part of the data."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload import data
from bsrbench.harness.workload.data import decodable, folders

SIDE = 16


@pytest.fixture
def draw():
    """Return a maker of image files, each another."""
    generator = np.random.default_rng(0)

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


@pytest.fixture
def photos(data_root, draw):
    """Return a folder of two classes with ten images each."""
    for name in ("a", "b"):
        for number in range(10):
            draw(data_root / "photos" / name / f"{number}.png")
    return data_root / "photos"


def load():
    return data.load("folder:photos", None, 0)


def images(split):
    return [split.image(index).numpy().tobytes() for index in range(len(split.labels))]


def sizes(found):
    return [len(split.labels) for split in (found.train, found.validation, found.test)]


# ---- what is left out -----------------------------------------------------------------------

LEFT_BEHIND = (
    *(".ipynb_checkpoints", ".thumbnails", ".Trash-1000", ".git", "__MACOSX", "@eaDir", "@EADIR"),
    *("$RECYCLE.BIN", "System Volume Information", "lost+found", "#recycle", "__pycache__"),
)


@pytest.mark.parametrize("place", [".", "a", "a/deep"])
@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_folders_that_are_left_behind_are_no_classes_and_hold_no_images(name, place, photos, draw):
    if place == "a/deep":
        draw(photos / place / "more.png")
    for number in range(3):
        inner = "inner" if number == 2 else ""
        there = photos / place / name / inner / f"{number}-checkpoint.png"
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "a" / f"{number}.png", there)
    found = load()
    extra = 1 if place == "a/deep" else 0

    assert folders.class_names(photos) == ["a", "b"]
    assert sum(sizes(found)) == found.facts["images"] == 20 + extra
    assert not set(images(found.test)) & set(images(found.train))
    (note,) = found.notes
    assert note.startswith("images left out because they are hidden or in a hidden folder: 3 (")
    assert f"{name}/0-checkpoint.png" in note


@pytest.mark.parametrize("name", ["._0.png", ".hidden.jpg"])
def test_hidden_files_are_no_images(name, photos):
    shutil.copy(photos / "a" / "0.png", photos / "a" / name)
    found = load()

    assert sum(sizes(found)) == 20
    assert found.notes == (
        f"images left out because they are hidden or in a hidden folder: 1 (a/{name})",
    )


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "labels.csv", "x.txt"])
def test_files_that_are_no_images_need_no_words(name, photos):
    (photos / "a" / name).write_bytes(b"x")
    found = load()

    assert (sum(sizes(found)), found.notes) == (20, ())


@pytest.mark.parametrize("part", ["train", "test", "val"])
def test_hidden_folders_in_a_folder_s_own_splits_are_left_out(part, data_root, draw):
    for split in ("train", "test", "val"):
        for name in ("a", "b"):
            for number in range(3):
                draw(data_root / "photos" / split / name / f"{number}.png")
    draw(data_root / "photos" / part / ".ipynb_checkpoints" / "0.png")
    draw(data_root / "photos" / ".ipynb_checkpoints" / "0.png")
    found = load()

    assert data.classes("folder:photos", None) == 2
    assert sizes(found) == [6, 6, 6]
    assert "in a hidden folder: 2 (" in found.notes[0]


def test_a_hidden_folder_may_be_the_data_set_itself(photos):
    photos.rename(photos.with_name(".photos"))

    assert sum(sizes(data.load("folder:.photos", None, 0))) == 20


def test_images_outside_every_class_are_left_out_and_said(photos, draw):
    draw(photos / "cover.png")
    found = load()

    assert found.facts["images"] == sum(sizes(found)) == 20
    assert found.notes == (
        "images left out because they are not in the folder of a class: 1 (cover.png)",
    )


@pytest.mark.parametrize("name", ["x.gif", "x.HEIC", "x.avif", "x.jp2"])
def test_pictures_of_other_formats_are_left_out_and_said(name, photos):
    (photos / "a" / name).write_bytes(b"x")
    (note,) = load().notes

    assert note.startswith("images left out because their format is not among .jpg, ")
    assert note.endswith(f": 1 (a/{name})")


def test_a_class_with_hidden_images_alone_has_none(photos, draw):
    draw(photos / "c" / ".ipynb_checkpoints" / "0.png")

    with pytest.raises(BadInput, match="has no image of 1 classes: c"):
        load()


@pytest.mark.parametrize("names", [("Train", "Test"), ("test", "val"), ("training", "testing")])
def test_splits_by_other_names_are_no_classes(names, photos):
    (photos / "a").rename(photos / names[0])
    (photos / "b").rename(photos / names[1])

    with pytest.raises(BadInput, match=r"but no train/: name the splits train, test and valid"):
        load()


def test_classes_may_be_called_valid_and_invalid(photos):
    (photos / "a").rename(photos / "valid")
    (photos / "b").rename(photos / "invalid")

    assert sizes(load()) == [14, 2, 4]


# ---- copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", range(10))
def test_copies_of_an_image_stay_in_one_split(copied, photos):
    """Byte for byte, and as another file with the same pixels."""
    shutil.copy(photos / "a" / f"{copied}.png", photos / "a" / f"{copied} (copy).png")
    Image.open(photos / "a" / f"{copied}.png").save(photos / "a" / f"{copied}.bmp")
    found = load()
    train, validation, test = map(set, map(images, (found.train, found.validation, found.test)))

    assert sum(sizes(found)) == 22
    assert train & test == train & validation == validation & test == set()
    assert len(test) == 4  # a fifth of the ten images of each class
    assert found.notes == (
        (
            "2 of 22 images are copies of other images of their class; copies are in the same "
            f"split: a/{copied}.bmp, a/{copied}.png"
        ),
    )


def test_a_folder_without_copies_is_carved_as_ever(photos):
    """Into the splits of before copies were looked for, which stored records were read on."""
    found = load()
    names = {read_pixels(path): f"{path.parent.name}/{path.name}" for path in photos.rglob("*.png")}
    test, validation = (
        sorted(names[pixels] for pixels in images(split))
        for split in (found.test, found.validation)
    )

    assert test == ["a/1.png", "a/4.png", "b/3.png", "b/9.png"]
    assert validation == ["a/6.png", "b/8.png"]


def read_pixels(path):
    return np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes()


def test_a_class_of_copies_alone_cannot_be_tested(photos):
    for number in range(1, 10):
        shutil.copy(photos / "a" / "0.png", photos / "a" / f"{number}.png")

    with pytest.raises(BadInput, match="class 0 has one image and 9 copies of it; a split cannot"):
        load()


def test_of_a_folder_s_own_splits_only_validation_is_carved(data_root, draw):
    for part in ("train", "test"):
        for name in ("a", "b"):
            for number in range(4):
                draw(data_root / "photos" / part / name / f"{number}.png")
    train = data_root / "photos" / "train"
    for number in (1, 2, 3):
        shutil.copy(train / "a" / "0.png", train / "a" / f"{number}.png")
    shutil.copy(train / "b" / "0.png", train / "b" / "0 (copy).png")
    found = load()
    shared = set(images(found.train)) & set(images(found.validation))

    assert sum(sizes(found)) == 9 + 8
    assert shared == {read_pixels(train / "a" / "0.png")}
    assert found.notes[1] == (
        "the training and validation splits share images, because all images of these classes are "
        "copies of one image: a"
    )


# ---- pixels ---------------------------------------------------------------------------------


def test_what_was_done_to_images_is_noted(photos):
    for number in range(2):
        Image.new("RGBA", (SIDE, SIDE), (10 * number, 0, 0, 100)).save(
            photos / "a" / f"t{number}.png"
        )
    Image.new("I;16", (SIDE, SIDE), 300).save(photos / "b" / "deep.png")
    for _ in range(2):  # found out, then remembered
        assert load().notes == (
            "2 of 23 images are transparent in places and were laid over white: a/t0.png, a/t1.png",
            (
                "1 of 23 images have more than 8 bits per channel, of which the upper 8 were kept: "
                "b/deep.png"
            ),
        )


def test_an_image_whose_colours_nobody_knows_is_named(photos):
    for number in range(2):
        Image.new("F", (SIDE, SIDE), 0.5).save(photos / "a" / f"x{number}.tif")
    said = (
        r"photos/a/x0\.tif has mode 'F', 32-bit floating-point numbers, which does not define "
        r"black and white: save it with 8 bits per channel, or remove it "
        r"\(other images with this problem: 1\)"
    )

    for _ in range(2):
        with pytest.raises(BadInput, match=said):
            load()


def test_what_is_remembered_is_forgotten_when_a_file_changes(photos):
    """To another image of the same size in bytes."""
    load()
    first, second = photos / "a" / "0.png", photos / "a" / "1.png"
    black, white = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("black", "white"))
    black.save(first, compress_level=0)
    load()
    white.save(second, compress_level=0)
    assert load().notes == ()
    before = second.stat()
    black.save(second, compress_level=0)
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # else within one tick

    assert second.stat().st_size == before.st_size
    assert load().notes[0].startswith("1 of 20 images are copies of other images")


@pytest.mark.parametrize("content", ["", "{", "[{}]", '[{"unheard": 1}]', "[1]"])
def test_what_is_remembered_and_damaged_is_found_out_again(content, photos, data_root):
    load()
    (kept,) = (data_root.parent / "cache").glob("images-*.json")
    whole = kept.read_text()
    kept.write_text(content)

    assert sum(sizes(load())) == 20
    assert kept.read_text() == whole


def test_what_was_remembered_by_other_rules_is_found_out_again(photos, data_root, monkeypatch):
    load()
    monkeypatch.setattr(decodable, "RULES", decodable.RULES + 1)
    load()

    assert len(list((data_root.parent / "cache").glob("images-*.json"))) == 2
