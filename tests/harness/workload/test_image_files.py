"""Image files as their specifications have them: 16 bits, transparent colours, damage."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.data.pixels import Treatment, UnknownPixels, read


def over_white(colour, alpha):
    """Return what is seen of a colour on white paper."""
    return tuple(round((c * alpha + 255 * (255 - alpha)) / 255) for c in colour)


def grey(value):
    return (value, value, value)


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width, bits, colour, row, *more):
    """Return a PNG file of one row, as its specification has it."""
    head = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(b"\0" + row))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def tiff(width, bits, photometric, row, **more):
    """Return a TIFF file of one row, as its specification has it."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 1, 279: len(row)}
    tags |= {int(name.removeprefix("tag")): value for name, value in more.items()}
    several = {tag: value for tag, value in tags.items() if isinstance(value, tuple)}
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    behind, places = b"", {}
    for tag, values in several.items():
        places[tag] = start + len(behind)
        behind += struct.pack(f"<{len(values)}H", *values)
    tags[273] = start + len(behind)
    entries = [
        struct.pack("<HHI", tag, 3, len(tags[tag])) + struct.pack("<I", places[tag])
        if tag in several
        else struct.pack("<HHII", tag, 4, 1, tags[tag])
        for tag in sorted(tags)
    ]
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return head + b"".join(entries) + struct.pack("<I", 0) + behind + row


def pixels_of(path, content):
    path.write_bytes(content)
    found = read(path)
    return [tuple(map(int, found.image[:, 0, x])) for x in range(found.image.shape[2])], set(
        found.treatments
    )


VALUES = (0, 0x00FF, 0x1234, 0x8000, 0xFFFF)
UPPER = [0, 0, 0x12, 0x80, 0xFF]  # their upper eight bits
BIG = struct.pack(">5H", *VALUES)
LITTLE = struct.pack("<5H", *VALUES)
OF_SIX = (*VALUES, 0x4321)
RGB_OF_SIX = [(0, 0, 0x12), (0x80, 0xFF, 0x43)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(5, 16, 0, BIG), [grey(v) for v in UPPER]),
        (png(2, 16, 2, struct.pack(">6H", *OF_SIX)), RGB_OF_SIX),
        (tiff(5, 16, 1, LITTLE), [grey(v) for v in UPPER]),
        # 0 is white
        (tiff(5, 16, 0, LITTLE), [grey(255 - v) for v in UPPER]),
        (
            tiff(2, (16, 16, 16), 2, struct.pack("<6H", *OF_SIX), tag277=3),
            RGB_OF_SIX,
        ),
        # Two pixels of 12 bits in three bytes: 0xFFF is white, 0x123 is 0x12.
        (tiff(2, 12, 1, b"\xff\xf1\x23"), [grey(255), grey(0x12)]),
        (b"P5\n5 1\n65535\n" + BIG, [grey(v) for v in UPPER]),
        # 4095 is white; 2048 of it is 128.
        (b"P5\n3 1\n4095\n" + struct.pack(">3H", 0, 2048, 4095), [grey(v) for v in (0, 128, 255)]),
    ],
    ids=("png", "png-rgb", "tiff", "tiff-inverted", "tiff-rgb", "tiff-of-12", "pgm", "pgm-of-12"),
)
def test_sixteen_bits_are_scaled_and_not_clipped(content, expected, tmp_path):
    found, treatments = pixels_of(tmp_path / "x", content)

    assert found == expected
    assert treatments == {Treatment.NARROWED}


def test_sixteen_bits_with_alpha_are_laid_over_white(tmp_path):
    row = struct.pack(">4H", 0x4000, 0xFFFF, 0x4000, 0)
    found, treatments = pixels_of(tmp_path / "x.png", png(2, 16, 4, row))

    assert found == [grey(0x40), grey(255)]
    assert treatments == {Treatment.NARROWED, Treatment.LAID_OVER_WHITE}


PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # A palette whose colours are opaque, half transparent, and not there at all.
        (
            png(3, 8, 3, bytes([0, 1, 2]), PALETTE, chunk(b"tRNS", bytes([255, 128, 0]))),
            [(255, 0, 0), over_white((0, 255, 0), 128), (255, 255, 255)],
        ),
        # One transparent colour, in each depth that a grey or coloured file may have.
        (
            png(2, 8, 0, bytes([7, 8]), chunk(b"tRNS", struct.pack(">H", 7))),
            [grey(255), grey(8)],
        ),
        (
            png(4, 2, 0, bytes([0b00011011]), chunk(b"tRNS", struct.pack(">H", 1))),
            [grey(0), grey(255), grey(170), grey(255)],
        ),
        (
            png(2, 4, 0, bytes([0x1E]), chunk(b"tRNS", struct.pack(">H", 1))),
            [grey(255), grey(0xEE)],
        ),
        (
            png(2, 1, 0, bytes([0b01000000]), chunk(b"tRNS", struct.pack(">H", 0))),
            [grey(255), grey(255)],
        ),
        (
            png(2, 8, 2, bytes([1, 2, 3, 1, 2, 4]), chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))),
            [(255, 255, 255), (1, 2, 4)],
        ),
        (
            png(2, 16, 0, struct.pack(">2H", 0x1234, 0x1235), chunk(b"tRNS", b"\x12\x34")),
            [grey(255), grey(0x12)],
        ),
    ],
    ids=("palette", "grey", "2-bits", "4-bits", "1-bit", "rgb", "16-bits"),
)
def test_a_transparent_colour_is_white_and_no_other(content, expected, tmp_path):
    found, treatments = pixels_of(tmp_path / "x.png", content)

    assert np.abs(np.subtract(found, expected)).max() <= 1
    assert Treatment.LAID_OVER_WHITE in treatments


def test_a_transparent_colour_that_cannot_be_told_is_a_message(tmp_path):
    path = tmp_path / "x.png"
    row = struct.pack(">6H", *OF_SIX)
    path.write_bytes(png(2, 16, 2, row, chunk(b"tRNS", struct.pack(">3H", *OF_SIX[:3]))))

    with pytest.raises(UnknownPixels, match=r"x\.png: mode 'RGB' with 16 bits per channel and one"):
        read(path)


@pytest.mark.parametrize(
    ("mode", "value"),
    [("L", 9), ("P", 1), ("RGB", (9, 8, 7)), ("RGBA", (9, 8, 7, 255)), ("LA", (9, 255)), ("1", 1)],
)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "WEBP"])
def test_usual_files_need_no_note(form, mode, value, tmp_path):
    """Wide ones, too: of a bitmap PIL knows how many bytes a row has, more than 255 here."""
    image = Image.new("P", (300, 2), value) if mode == "P" else Image.new(mode, (300, 2), value)
    if form == "BMP" and mode == "LA":
        image = image.convert("RGBA")
    image.save(tmp_path / "x", form, lossless=True)

    assert read(tmp_path / "x").treatments == frozenset()


def test_a_cmyk_photograph_keeps_its_colours(tmp_path):
    """Adobe's files are inverted, which PIL undoes."""
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.jpg", quality=100)
    found = read(tmp_path / "x.jpg")

    assert int(found.image.min()) >= 254  # no ink
    assert found.treatments == {Treatment.WITHOUT_PROFILE}


def test_a_file_that_is_cut_anywhere_is_a_message(tmp_path):
    whole = io.BytesIO()
    Image.new("L", (9, 9), 9).convert("P").save(whole, "PNG")
    content = whole.getvalue()
    for length in range(0, len(content) - 30, 7):  # all pixels stand before the last checksums
        (tmp_path / "x.png").write_bytes(content[:length])

        with pytest.raises(BadInput, match=r"x\.png cannot be decoded as an image"):
            read(tmp_path / "x.png")
