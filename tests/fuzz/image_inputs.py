"""Inputs of data: images, what is kept of them, and packs."""

import io
import json

import numpy as np
from PIL import Image

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.data import decodable, packs, pixels
from tests.fuzz.input_files import write_input


def _image(form, mode, **how):
    side = 24
    numbers = np.arange(side * side * 4, dtype=np.uint32).reshape(side, side, 4) * 7 % 256
    image = Image.fromarray(numbers.astype(np.uint8), "RGBA").convert(mode)
    with io.BytesIO() as written:
        image.save(written, form, **how)
        return written.getvalue()


def images():
    """Return an image of every format, in several modes and ways to pack it."""
    found = [_image("PNG", mode) for mode in ("L", "P", "RGB", "RGBA", "1", "LA")]
    found += [_image("JPEG", "RGB"), _image("JPEG", "L", progressive=True), _image("JPEG", "CMYK")]
    packings = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    found += [_image("TIFF", "RGB", compression=packing) for packing in packings]
    found += [_image("WEBP", "RGBA", lossless=True), _image("WEBP", "RGB"), _image("BMP", "RGB")]
    frame = Image.new("P", (24, 24), 3)
    found += [_image("GIF", "P"), _image("GIF", "P", save_all=True, append_images=[frame])]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    found += [_image(form, "RGB", exif=exif) for form in ("JPEG", "PNG", "WEBP", "TIFF")]
    return [*found, _image("PPM", "RGB"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]


def read_image(content, place):
    pixels.read(write_input(place, "any.png", content))


def kept_images():
    """Return what is kept of a folder's images."""
    kept = [{}, {"broken": True}, {"pixels": "ab" * 12}, {"unknown": "mode 'F'"}]
    kept += [
        {"pixels": "cd" * 12, "treatments": ["are CMYK and became RGB without a colour profile"]}
    ]
    return [json.dumps(kept).encode()]


def read_kept_images(content, place):
    if not decodable._kept(write_input(place, "images.json", content)):
        raise BadInput("nothing is kept, so they are decoded again")


def packs_():
    """Return packs."""
    rows = np.arange(8 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 4, 4, 3)
    labels = np.arange(8) % 2
    named = {"x_train": rows, "y_train": labels, "x_test": rows[:4], "y_test": labels[:4]}
    found = []
    for save in (np.savez, np.savez_compressed):
        with io.BytesIO() as written:
            save(written, **named, classes=np.array(["cat", "dog"]))
            found.append(written.getvalue())
    return found


def read_pack(content, place):
    packs.load(write_input(place, "any.npz", content))
