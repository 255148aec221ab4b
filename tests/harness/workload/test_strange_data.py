"""Images, packs and weights of strangers: within bounds, below the data root, refused in words."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload import data, npz, weights
from bsrbench.harness.workload.data import decodable, image_bounds, pixels

MIB = 2**20


@pytest.fixture
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("BSRBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width, height, *more):
    """Return a PNG file that says how many grey pixels it has, and holds some."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + rows + chunk(b"IEND", b"")


def jpeg(scans):
    with io.BytesIO() as written:
        Image.new("L", (64, 64), 7).save(written, "JPEG", progressive=True)
        whole = written.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * scans + whole[-2:]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (EPS, "its format is none of BMP, GIF, JPEG"),
        (b"", "its format is none of"),
        (png(8_000, 8_000), r"it has 8,000 x 8,000 pixels, expected 50,000,000 at most"),
        (png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9 * MIB)))), "too large"),
        (png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9 * MIB)))), "too large"),
        (jpeg(1_000), "it has 1001 scans"),
    ],
    ids=("eps", "empty", "pixels", "text", "profile", "scans"),
)
def test_an_image_out_of_bounds_does_not_decode(content, said, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing is started: gs would not be found
    (tmp_path / "x.jpg").write_bytes(content)

    with pytest.raises(BadInput, match=rf"cannot be decoded as an image \(.*{said}"):
        pixels.read(tmp_path / "x.jpg")


def test_as_many_scans_as_cameras_write_decode(tmp_path):
    (tmp_path / "x.jpg").write_bytes(jpeg(4))

    assert pixels.read(tmp_path / "x.jpg").image.shape == (3, 64, 64)


def test_a_tile_larger_than_any_image_is_not_made(tmp_path):
    tags = {
        256: 8,
        257: 8,
        258: 8,
        259: 1,
        262: 1,
        277: 1,
        322: 65_536,
        323: 65_536,
        324: 8,
        325: 64,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "x.tif").write_bytes(head + bytes(64))

    with pytest.raises(BadInput, match=r"65,536 x 65,536 pixels"):
        pixels.read(tmp_path / "x.tif")


def test_whatever_lies_in_a_folder_is_left_out_and_not_waited_for(root):
    folder = root / "photos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / name / f"{number}.png")
    os.mkfifo(folder / "a" / "fifo.png")
    (folder / "a" / "device.png").symlink_to("/dev/zero")
    (folder / "a" / "round").symlink_to(folder)
    with (folder / "b" / "sparse.png").open("wb") as file:
        file.truncate(500 * 2**30)
    found = data.load("folder:photos", None, 0)

    assert found.facts["left_out"] == ["a/device.png", "a/fifo.png", "b/sparse.png"]
    assert found.facts["images"] == 24


@pytest.mark.parametrize(
    "kept",
    ["", "5", "{}", "[5]", "[[]]", '[{"broken": 1}]', '[{"treatments": ["x"]}]', '[{"pixels": 5}]',
     '[{"x": 1}]', "[" * 100_000, '[{"treatments": 5}]', '"x"'],
)  # fmt: skip
def test_a_damaged_list_of_images_is_made_anew(kept, root):
    (root / "kept.json").write_text(kept)

    assert decodable._kept(root / "kept.json") == []


NAMES = ["../x", "a/../../x", "..", "/etc/passwd", "/", "a\0b", "."]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pack:", "folder:", "file:"])
def test_a_name_stays_below_the_data_root(kind, name, root):
    ending = ".npz" if kind == "file:" else ""
    ask = weights.fetch if kind == "file:" else data.check_name

    with pytest.raises(
        BadInput, match=r"is outside the data root|contains a zero byte|no weights file"
    ):
        ask(f"{kind}{name}{ending}")


def test_a_link_below_the_root_is_followed_and_a_long_name_is_none(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "w.npz").write_bytes(b"x")
    (root / "w.npz").symlink_to(elsewhere / "w.npz")

    assert weights.fetch("file:w.npz") == root / "w.npz"
    for name in ("pack:", "folder:"):
        with pytest.raises(BadInput, match="no data f"):
            data.load(name + "a" * 4000, None, 0)
    with pytest.raises(BadInput, match="no weights file"):
        weights.fetch("file:" + "a/" * 2000 + "w.npz")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_vit", depth=1, embed_dim=16, num_heads=2, num_classes=3)


def nested():
    found = {}
    for _ in range(100):
        found = {"model": found}
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {0: torch.ones(1)}, "a tensor's name is 0, expected the name"),
        (lambda s: s | {(1,): torch.ones(1)}, "a tensor's name is not a text"),
        (lambda s: s | {"norm.bias": s["norm.bias"].to_sparse()}, "'norm.bias' is sparse"),
        (lambda s: s | {"norm.bias": s["norm.bias"].to("meta")}, "on the device meta"),
        (lambda s: s | {"norm.bias": s["norm.bias"] + 1j}, "is torch.complex64"),
        (lambda s: s | {"norm.bias": s["norm.bias"].long()}, r"with another dtype \(norm\.bias"),
        (lambda s: s | {"norm.bias": s["norm.bias"] / 0}, r"not finite.*in 1 tensors \(norm\.bias"),
        (lambda s: s | {"norm.bias": s["norm.bias"].double() + 1e300}, "not finite"),
        (lambda s: s | {"pos_embed": s["pos_embed"][0]}, "with another shape"),
        (lambda s: s | {"pos_embed": torch.tensor(1.0)}, "with another shape"),
        (lambda s: s | {"pos_embed": torch.zeros(1).expand(1, 10**6 + 1, 16)}, "more values than"),
        (lambda s: s | {"norm.bias": torch.zeros(1).expand(10**12)}, "more values than the file"),
        (lambda s: s | {"x" * MIB: torch.ones(1)}, r"not in this model \(x{200}\.\.\."),
        (lambda _: nested(), "expected tensors by name"),
        (lambda _: [1, 2], "expected tensors by name"),
        (lambda _: {}, "missing"),
    ],
)
def test_strange_tensors_are_refused_in_words(change, said, root, model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(change(dict(before)), root / "w.pt")
    try:
        with pytest.raises(BadInput, match=said) as refused:
            weights.load_into(model, "file:w.pt")
    finally:
        model.load_state_dict(before)

    assert len(str(refused.value)) < 1000


def repacked(path, change, packed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path) as archive:
        parts = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in change(parts).items():
            archive.writestr(name, content)


def with_more(parts, ending, content):
    return parts | {next(name for name in parts if name.endswith(ending)): content}


@pytest.mark.parametrize(
    ("change", "packed", "said"),
    [
        (lambda parts: parts, zipfile.ZIP_DEFLATED, "its parts are compressed"),
        (lambda parts: with_more(parts, "data.pkl", bytes(9 * MIB)), 0, "without tensor values"),
        # Our message, or torch's own.
        (lambda parts: with_more(parts, "data/1", b"ab"), 0, "parts have only|match expected size"),
        (lambda _: {}, 0, "refused: it is damaged"),
    ],
)
def test_an_archive_that_is_no_checkpoint_of_torch_is_refused(change, packed, said, root, model):
    torch.save(model.state_dict(), root / "w.pt")
    repacked(root / "w.pt", change, packed)

    with pytest.raises(BadInput, match=said):
        weights.load_into(model, "file:w.pt")


@pytest.mark.parametrize("ending", ["pt", "npz", "safetensors"])
def test_a_file_larger_than_any_of_the_model_is_not_read(ending, root, model):
    with (root / f"w.{ending}").open("wb") as file:
        file.truncate(500 * 2**30)
    os.mkfifo(root / f"fifo.{ending}")

    with pytest.raises(BadInput, match=r"has 500\.0 GiB, expected at most .* this model's weights"):
        weights.load_into(model, f"file:w.{ending}")
    with pytest.raises(BadInput, match="no weights file"):
        weights.load_into(model, f"file:fifo.{ending}")


def test_a_header_longer_than_a_file_is_not_read(root, model):
    save_file(model.state_dict(), root / "w.safetensors")
    whole = (root / "w.safetensors").read_bytes()
    (root / "w.safetensors").write_bytes(struct.pack("<Q", 2**60) + whole[8:])

    with pytest.raises(BadInput, match="its header has 1,152,921,504,606,846,976 bytes"):
        weights.load_into(model, "file:w.safetensors")


def many(path, count):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.npy", b"")


KERNEL = "embedding/kernel"


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: np.savez_compressed(path, **{KERNEL: np.zeros(300 * MIB, np.uint8)}),
            r"has 0\.3 GiB unpacked, more than expected for weights of this model",
        ),
        (lambda path: np.savez(path, **{KERNEL: np.ones(3, complex)}), "an array of complex128"),
        (lambda path: np.savez(path, **{KERNEL: np.zeros(3, [("a", "i4")])}), "is an array of"),
        (
            lambda path: np.savez(path, **{KERNEL: np.ones(3)}),
            "cannot be read as weights of this model",
        ),
        (np.savez, "cannot be read as weights of this model"),
        (lambda path: many(path, 10_001), "it has 10,001 arrays, expected 10,000 at most"),
    ],
    ids=("bomb", "complex", "parts", "shape", "empty", "many"),
)
def test_strange_weights_of_jax_are_refused_in_words(write, said, root, model):
    write(root / "w.npz")

    with pytest.raises(BadInput, match=said):
        weights.load_into(model, "file:w.npz")


def test_a_long_list_of_members_is_not_read(tmp_path):
    end = b"PK\5\6" + bytes(8) + struct.pack("<II", npz.MOST_LISTED + 1, 0) + bytes(2)
    (tmp_path / "x.npz").write_bytes(end)

    with pytest.raises(ValueError, match="its list of members has 4,194,305 bytes"):
        npz.require_list(tmp_path / "x.npz")


def test_bounds_leave_room_for_the_photographs_of_cameras():
    assert 8_192 * 5_464 < image_bounds.MOST_PIXELS  # 45 megapixels
