"""Packs and folders of one's own, small ones, and what is wrong with one said plainly."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload import data
from bsrbench.harness.workload.data import builtin_data, packs
from bsrbench.harness.workload.data.splits import InMemory, carve

SIDE = 8


def picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIDE, SIDE, 3), shade, dtype=np.uint8)).save(path, quality=95)


# ---- small ones -----------------------------------------------------------------------------


def test_digits_are_split_without_overlap_and_alike_every_time():
    first, second = (data.load("digits", None, seed) for seed in (0, 1))
    splits = first.train, first.validation, first.test
    counts = [len(split.labels) for split in splits]

    assert sum(counts) == 1797
    assert [round(count / 1797, 2) for count in counts] == [0.6, 0.2, 0.2]
    assert torch.equal(first.test.indices, second.test.indices)
    for split in splits:
        assert set(split.labels.tolist()) == set(range(10))


def test_digits_are_those_that_scikit_learn_loads():
    """Which reads the same file; here it is read without scikit-learn."""
    raw = load_digits()
    found = data.load("digits", None, 0)
    splits = found.train, found.validation, found.test
    ours = {
        (tuple(split.image(place)[0].flatten().tolist()), int(split.labels[place]))
        for split in splits
        for place in range(len(split.labels))
    }
    theirs = {
        (tuple(np.rint(pixels * 255 / 16).astype(int)), int(label))
        for pixels, label in zip(raw.data, raw.target, strict=True)
    }

    assert ours == theirs


def test_digits_that_are_not_there_are_said(monkeypatch):
    monkeypatch.setattr(builtin_data, "DIGITS_FILE", "datasets/data/none.csv.gz")

    with pytest.raises(BadInput, match=r"no file .*none\.csv\.gz .*install scikit-learn"):
        data.load("digits", None, 0)


def test_carving_takes_each_classs_share_and_loses_none():
    labels = torch.tensor([0] * 30 + [1] * 10 + [2] * 2)
    split = InMemory(torch.arange(42, dtype=torch.uint8).view(42, 1, 1, 1), labels)
    rest, carved = carve(split, 0.1)

    assert torch.bincount(carved.labels).tolist() == [3, 1, 1]
    seen = [int(part.image(i)) for part in (rest, carved) for i in range(len(part.labels))]
    assert sorted(seen) == list(range(42))


def test_a_class_of_one_image_cannot_be_carved():
    with pytest.raises(BadInput, match="class 1 has one image"):
        carve(InMemory(torch.zeros(3, 3, 1, 1), torch.tensor([0, 0, 1])), 0.1)


@pytest.mark.parametrize("name", ["cifar", "pack:", "folder", "flowers"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(BadInput, match="no data set"):
        data.classes(name, None)


# ---- packs ----------------------------------------------------------------------------------


def write_pack(path, **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 2,
        "x_test": generator.integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8),
        "y_test": np.arange(6, dtype=np.uint8) % 2,
        "classes": np.array(["cat", "dog"]),
    }
    kept = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(path, **kept)
    return arrays


def test_a_pack_is_read(data_root):
    arrays = write_pack(data_root / "two.npz")
    found = data.load("pack:two.npz", None, 0)

    assert data.classes("pack:two.npz", None) == 2
    assert [len(s.labels) for s in (found.train, found.validation, found.test)] == [18, 2, 6]
    assert torch.equal(found.test.image(3), torch.from_numpy(arrays["x_test"][3]).permute(2, 0, 1))
    assert found.facts["images"] == 26
    assert len(found.facts["sha256"]) == 64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None}, "lacks y_test; it has x_train"),
        ({"y_test": np.array([0, 1, 2, 0, 1, 0])}, r"test has labels from 0 to 2; expected 0 to 1"),
        ({"y_test": np.zeros(6, dtype=np.uint8)}, r"test has no image of 1 classes: dog"),
        (
            {"y_test": np.zeros(5, dtype=np.uint8)},
            r"labels are uint8 \[5\], expected integers \[6\]",
        ),
        ({"x_test": np.zeros((6, 3, 8, 8), dtype=np.uint8)}, r"uint8 \[6, 3, 8, 8\], expected"),
        ({"x_test": np.zeros((6, 8, 8, 3))}, r"images are float64 \[6, 8, 8, 3\], expected uint8"),
        ({"y_test": np.array([0, 1, None, 0, 1, 0])}, "cannot be read as a pack"),
    ],
)
def test_what_is_wrong_with_a_pack_is_said(changes, said, data_root):
    write_pack(data_root / "bad.npz", **changes)

    with pytest.raises(BadInput, match=said):
        data.load("pack:bad.npz", None, 0)


NOT_BYTES = [code for code in np.typecodes["All"] if code not in "BOVM"] + ["M8[s]"]


@pytest.mark.parametrize("kind", NOT_BYTES)
def test_images_of_other_numbers_than_bytes_are_refused_with_what_to_do(kind, data_root):
    write_pack(data_root / "bad.npz", x_test=np.ones((6, SIDE, SIDE, 3)).astype(kind))
    said = r"test: images are \S+ \[6, 8, 8, 3\], expected uint8 .*: scale the values so that 0 is"

    with pytest.raises(BadInput, match=said):
        data.load("pack:bad.npz", None, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"x_test": np.zeros((6, 0, 8, 3), dtype=np.uint8)},
            r"uint8 \[6, 0, 8, 3\], expected uint8",
        ),
        ({"classes": np.array("cat")}, r"classes has type <U3 and shape \[\], expected a list"),
        (
            {"classes": np.array([["cat", "dog"]])},
            r"classes has type <U3 and shape \[1, 2\], expected a list",
        ),
    ],
)
def test_arrays_of_odd_shapes_are_refused(changes, said, data_root):
    write_pack(data_root / "bad.npz", **changes)

    with pytest.raises(BadInput, match=said):
        data.load("pack:bad.npz", None, 0)


def test_a_truncated_pack_is_refused(data_root):
    write_pack(data_root / "cut.npz")
    whole = (data_root / "cut.npz").read_bytes()
    (data_root / "cut.npz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(BadInput, match=r"cut\.npz cannot be read as a pack"):
        data.load("pack:cut.npz", None, 0)


def test_a_pack_that_says_it_is_larger_than_the_memory_is_not_unpacked(data_root, monkeypatch):
    write_pack(data_root / "small.npz")
    monkeypatch.setattr(packs.os, "sysconf", lambda _: 64)  # 64 pages of 64 bytes

    with pytest.raises(
        BadInput, match=r"small\.npz has .* GiB unpacked, more than the memory of this machine"
    ):
        data.load("pack:small.npz", None, 0)


def test_an_array_that_says_it_is_larger_than_the_memory_is_not_made(data_root):
    write_pack(data_root / "bomb.npz")
    header = io.BytesIO()
    said = {"descr": "|u1", "fortran_order": False, "shape": (10**13, 1, 1, 3)}
    np.lib.format.write_array_header_1_0(header, said)
    with zipfile.ZipFile(data_root / "bomb.npz", "a") as archive:
        archive.writestr("more.npy", header.getvalue())

    with pytest.raises(BadInput, match=r"bomb\.npz has 27939\.7 GiB unpacked"):
        data.load("pack:bomb.npz", None, 0)


@pytest.mark.parametrize("harm", [lambda whole: whole[::-1], lambda whole: whole[:-30] + b"x" * 30])
def test_what_is_no_pack_at_all_is_said(harm, data_root):
    write_pack(data_root / "odd.npz")
    (data_root / "odd.npz").write_bytes(harm((data_root / "odd.npz").read_bytes()))
    with pytest.raises(BadInput, match=r"odd\.npz cannot be read as a pack"):
        data.load("pack:odd.npz", None, 0)
    np.save(data_root / "bare.npy", np.zeros(3))
    (data_root / "bare.npy").rename(data_root / "bare.npz")
    with pytest.raises(BadInput, match=r"bare\.npz cannot be read as a pack"):
        data.load("pack:bare.npz", None, 0)


def test_a_missing_file_is_named_with_where_it_was_looked_for(data_root):
    for name in ("pack:none.npz", "folder:none"):
        with pytest.raises(BadInput, match=r"no data .* 'none.*--data-root or BSRBENCH_DATA"):
            data.load(name, None, 0)


# ---- folders --------------------------------------------------------------------------------


def write_folder(folder, counts=(("rose", 10), ("tulip", 12))):
    for name, count in counts:
        for index in range(count):
            picture(folder / name / f"{index:02d}.png", shade=index)


def test_a_folder_without_splits_gets_them_carved(data_root):
    write_folder(data_root / "flowers")
    found = data.load("folder:flowers", None, 0)

    assert data.classes("folder:flowers", None) == 2
    assert [len(s.labels) for s in (found.train, found.validation, found.test)] == [16, 2, 4]


def test_a_folders_own_splits_are_taken(data_root):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        write_folder(data_root / "own" / part, (("a", count), ("b", count)))
    found = data.load("folder:own", None, 0)

    assert [len(s.labels) for s in (found.train, found.validation, found.test)] == [10, 4, 6]
    assert found.train.image(9)[0, 0, 0] == 4
    assert found.notes == ()


def test_images_that_do_not_decode_are_left_out_named_and_counted(data_root):
    write_folder(data_root / "some")
    whole = (data_root / "some" / "rose" / "03.png").read_bytes()
    (data_root / "some" / "rose" / "03.png").write_bytes(whole[: len(whole) // 2])
    (data_root / "some" / "tulip" / "extra.jpg").write_text("not an image")
    for _ in range(2):  # found out, then remembered
        found = data.load("folder:some", None, 0)

        assert found.facts["images"] == 21
        assert found.notes == (
            "2 of 23 images do not decode and were left out: rose/03.png, tulip/extra.jpg",
        )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.mkdir(), "has no folders; expected one folder per class"),
        (lambda folder: (folder / "a").mkdir(parents=True), "has no images"),
        (
            lambda folder: (write_folder(folder), (folder / "empty").mkdir()),
            "has no image of 1 classes: empty",
        ),
        (lambda folder: write_folder(folder / "train"), r"has train/, but no test/"),
        (
            lambda folder: (
                write_folder(folder / "train"),
                write_folder(folder / "test", (("x", 1),)),
            ),
            "has classes that train/ does not have: x",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(make, said, data_root):
    make(data_root / "bad")

    with pytest.raises(BadInput, match=said):
        data.load("folder:bad", None, 0)


def test_grey_and_transparent_images_get_three_channels(data_root):
    for part in ("train", "test"):
        for name, mode in (("a", "L"), ("b", "RGBA")):
            for index in range(2):
                path = data_root / "modes" / part / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (5, 7)).save(path)
    found = data.load("folder:modes", None, 0)

    assert {found.test.image(i).shape for i in range(4)} == {(3, 7, 5)}
