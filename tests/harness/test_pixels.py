"""Each mode that PIL opens becomes the right eight bits of red, green and blue, or a message."""

import colorsys
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from harness.errors import BadInput
from harness.workload.data.pixels import Treatment, UnknownPixels, in_rgb, read
from harness.workload.data.stored import Stored

WIDE = Stored(wide=True)
NO, SEEN_THROUGH = frozenset(), frozenset({Treatment.LAID_OVER_WHITE})
NARROW = frozenset({Treatment.NARROWED})


def over_white(colour, alpha):
    """Return what is seen of a colour on white paper."""
    return tuple(round((c * alpha + 255 * (255 - alpha)) / 255) for c in colour)


def of_lab(lightness, a, b):
    """Return sRGB of a CIE L*a*b* colour under D50, by the formulas of CIE 15 and IEC 61966-2-1."""
    fy = (lightness + 16) / 116
    x, y, z = (
        white * (f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29))
        for white, f in zip((0.9642, 1.0, 0.8249), (fy + a / 500, fy, fy - b / 200), strict=True)
    )
    # Linear sRGB of XYZ under D50 (Bradford), as Lindbloom has it.
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ [x, y, z], 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(int(c) for c in np.rint(255 * gamma))


def grey(value):
    return (value, value, value)


def one_pixel(mode, value):
    """Return an image of one pixel; where PIL's names for numbers fail, from an array."""
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (1, 1), struct.pack(">H" if "B" in mode else "<H", value))
    return Image.new(mode, (1, 1), value)


def with_palette(mode, value):
    image = Image.new(mode, (1, 1))
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.putpixel((0, 0), value)
    return image


# Mode by mode: an image, how its file kept it, the colours by arithmetic, what was done, and by how
# much rounding may differ. YCbCr by BT.601 as JPEG has it; HSV by colorsys; CMYK by (1 - C)(1 - K).
CASES = {
    "1": (one_pixel("1", 1), Stored(), grey(255), NO, 0),
    "L": (one_pixel("L", 77), Stored(), grey(77), NO, 0),
    "P": (with_palette("P", 1), Stored(), (200, 100, 50), NO, 0),
    "PA": (
        with_palette("PA", (1, 128)),
        Stored(),
        over_white((200, 100, 50), 128),
        SEEN_THROUGH,
        1,
    ),
    "RGB": (one_pixel("RGB", (10, 20, 30)), Stored(), (10, 20, 30), NO, 0),
    "RGBX": (one_pixel("RGBX", (10, 20, 30, 0)), Stored(), (10, 20, 30), NO, 0),
    "RGBA": (
        *(one_pixel("RGBA", (10, 20, 30, 64)), Stored()),
        *(over_white((10, 20, 30), 64), SEEN_THROUGH, 1),
    ),
    # Premultiplied by 128 / 255: half of what is seen is this colour, half is white.
    "RGBa": (one_pixel("RGBa", (50, 25, 0, 128)), Stored(), (177, 152, 127), SEEN_THROUGH, 2),
    "LA": (one_pixel("LA", (100, 51)), Stored(), over_white(grey(100), 51), SEEN_THROUGH, 1),
    "La": (one_pixel("La", (50, 128)), Stored(), grey(177), SEEN_THROUGH, 2),
    "CMYK": (
        *(one_pixel("CMYK", (51, 102, 0, 51)), Stored()),
        # (1 - 0.2) 0.8 = 0.64, (1 - 0.4) 0.8 = 0.48, 0.8, of 255
        *((163, 122, 204), frozenset({Treatment.WITHOUT_PROFILE}), 1),
    ),
    "YCbCr": (
        *(one_pixel("YCbCr", (100, 90, 160)), Stored()),
        # 100 + 1.402 * 32, 100 - 0.344136 * -38 - 0.714136 * 32, 100 + 1.772 * -38
        *((145, 90, 33), NO, 1),
    ),
    "HSV": (
        *(one_pixel("HSV", (30, 200, 150)), Stored()),
        *(
            tuple(round(255 * c) for c in colorsys.hsv_to_rgb(30 / 255, 200 / 255, 150 / 255)),
            NO,
            2,
        ),
    ),
    # 8 bits of L* go to 100; those of a* and b* lie 128 above.
    "LAB": (
        *(one_pixel("LAB", (128, 148, 108)), Stored()),
        *(of_lab(128 / 255 * 100, 20, -20), NO, 2),
    ),
    **{
        mode: (one_pixel(mode, 0xABCD), WIDE, grey(0xAB), NARROW, 0)
        for mode in ("I;16", "I;16B", "I;16L", "I;16N")
    },
    "I": (one_pixel("I", 1000), Stored(), "mode 'I', 32-bit integers", None, 0),
    "F": (one_pixel("F", 0.5), Stored(), "mode 'F', 32-bit floating-point numbers", None, 0),
}


def test_every_mode_of_pil_has_its_case():
    """A mode that a later PIL adds fails here, until somebody has said what is right for it."""
    assert set(Image.MODES) == set(CASES)


@pytest.mark.parametrize("mode", CASES)
def test_a_mode_becomes_the_right_colours_or_a_message(mode):
    image, stored, expected, done, tolerance = CASES[mode]
    assert image.mode == mode
    if isinstance(expected, str):
        with pytest.raises(UnknownPixels, match=f"{expected}.*: save it with 8 bits per channel"):
            in_rgb(image, stored)
        return
    found, treatments = in_rgb(image, stored)

    assert found.mode == "RGB"
    assert np.abs(np.subtract(found.getpixel((0, 0)), expected)).max() <= tolerance
    assert treatments == done


def test_a_mode_that_nobody_has_heard_of_is_a_message():
    image = Image.new("RGB", (1, 1))
    image._mode = "XYZ"

    with pytest.raises(UnknownPixels, match="mode 'XYZ' is not known here: save it with 8 bits"):
        in_rgb(image, Stored())


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_what_is_opaque_throughout_is_left_as_it_is(mode):
    value = {"LA": (60, 255), "La": (60, 255), "PA": (1, 255)}.get(mode, (60, 70, 80, 255))
    image = with_palette(mode, value) if mode == "PA" else one_pixel(mode, value)
    expected = {"LA": grey(60), "La": grey(60), "PA": (200, 100, 50)}.get(mode, (60, 70, 80))
    found, treatments = in_rgb(image, Stored())

    assert (found.getpixel((0, 0)), treatments) == (expected, NO)


# ---- files ----------------------------------------------------------------------------------


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

    with pytest.raises(UnknownPixels, match=r"x\.png: mode 'RGB' of 16 bits per channel with one"):
        read(path)


@pytest.mark.parametrize(
    ("mode", "value"),
    [("L", 9), ("P", 1), ("RGB", (9, 8, 7)), ("RGBA", (9, 8, 7, 255)), ("LA", (9, 255)), ("1", 1)],
)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "WEBP"])
def test_usual_files_need_no_note(form, mode, value, tmp_path):
    """Wide ones, too: of a bitmap PIL knows how many bytes a row has, more than 255 here."""
    image = with_palette(mode, value) if mode == "P" else Image.new(mode, (300, 2), value)
    if form == "BMP" and mode == "LA":
        image = image.convert("RGBA")
    image.save(tmp_path / "x", form, lossless=True)

    assert read(tmp_path / "x").treatments == NO


# ---- orientation ----------------------------------------------------------------------------

# A picture of six pixels as it should be seen, and how a camera held so has stored it
# (EXIF 2.32, 4.6.4, tag 274: where the stored first row and first column lie in the scene).
SEEN = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8) * 40
HELD = {
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.T,
    6: np.rot90(SEEN),
    7: SEEN[::-1, ::-1].T,
    8: np.rot90(SEEN, -1),
}


@pytest.mark.parametrize("orientation", HELD)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_an_image_is_turned_as_its_camera_was_held(mode, form, orientation, tmp_path):
    if mode == "I;16" and form == "WEBP":
        mode = "RGBA"  # there are no 16 bits in WebP
    stored = np.ascontiguousarray(HELD[orientation])
    wide = Image.fromarray(stored.astype(np.uint16) << 8)
    image = wide if mode == "I;16" else Image.fromarray(stored).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "x", form, exif=exif, lossless=True)
    found = read(tmp_path / "x")

    assert np.array_equal(found.image.numpy(), np.stack([SEEN] * 3))
    if form != "TIFF":  # which PIL turns itself
        assert (Treatment.TURNED in found.treatments) == (orientation != 1)


def test_a_photograph_of_a_camera_is_turned(tmp_path):
    """JPEG, whose blocks of 8 pixels hold one shade each."""
    stored = Image.fromarray(HELD[6]).resize((16, 24), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored.save(tmp_path / "x.jpg", quality=100, exif=exif)
    found = read(tmp_path / "x.jpg").image[0, ::8, ::8].numpy().astype(int)

    assert found.shape == SEEN.shape
    assert np.abs(found - SEEN).max() <= 2


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"nonsense"])
def test_a_damaged_exif_block_leaves_an_image_as_it_is(exif, tmp_path):
    image = Image.fromarray(SEEN)
    image.save(tmp_path / "x.png", exif=exif)
    found = read(tmp_path / "x.png")

    assert np.array_equal(found.image[0].numpy(), SEEN)
    assert found.treatments == NO


# ---- damage ---------------------------------------------------------------------------------


def test_a_cmyk_photograph_keeps_its_colours(tmp_path):
    """Adobe's files are inverted, which PIL undoes."""
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.jpg", quality=100)
    found = read(tmp_path / "x.jpg")

    assert int(found.image.min()) >= 254  # no ink
    assert found.treatments == {Treatment.WITHOUT_PROFILE}


def test_a_file_that_is_cut_anywhere_is_a_message(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(SEEN).convert("P").save(whole, "PNG")
    content = whole.getvalue()
    for length in range(0, len(content) - 30, 7):  # all pixels stand before the last checksums
        (tmp_path / "x.png").write_bytes(content[:length])

        with pytest.raises(BadInput, match=r"x\.png: not an image that can be decoded"):
            read(tmp_path / "x.png")
